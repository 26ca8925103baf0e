"""The helpers for a project's own tests, in a project's own tests."""

from __future__ import annotations

from .conftest import Project, on_mariadb_too


@on_mariadb_too
def test_a_projects_tests_pass_on_the_connection_that_they_have(project: Project) -> None:
    printed = project.manage("test", "tests.django.project.orders", "--noinput")
    assert "OK" in printed and "Ran 15 tests" in printed
