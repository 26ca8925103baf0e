"""The helpers for a project's own tests, in a project's own tests."""

from __future__ import annotations

import json

import pytest

from .conftest import Project


@pytest.mark.full
@pytest.mark.changes_tables
@pytest.mark.parametrize(
    "project",
    ["sqlite", "postgres", pytest.param("mariadb", marks=pytest.mark.long)],
    indirect=True,
)
def test_a_projects_tests_pass_on_the_connection_that_they_have(project: Project) -> None:
    """Over SQLite in memory, which is migrated before.

    Else in a database that has its tables already.
    """
    options, database = ["--noinput"], project.database
    if "sqlite" not in database["ENGINE"]:
        options, database = ["--keepdb"], {**database, "TEST": {"NAME": database["NAME"]}}
    printed = project.manage(
        "test",
        "tests.django.project.orders",
        *options,
        DURABLE_DJANGO_DATABASE=json.dumps(database),
    )
    assert "OK" in printed and "Ran 17 tests" in printed
