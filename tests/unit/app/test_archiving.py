"""What ``durable_archive`` may name: a function, a folder, or the path of a function."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from celery_durable.app.archiving import LazyArchive, archive_of
from celery_durable.archive import ArchiveFolder
from celery_durable.errors import ConfigurationError


def hook(document: str, key: str) -> None: ...


async def slow(document: str, key: str) -> None: ...


@pytest.mark.parametrize("given", [hook, functools.partial(hook), ArchiveFolder("/tmp/x")])
def test_a_function_is_itself(given: Any) -> None:
    assert archive_of(given) is given


@pytest.mark.parametrize("given", ["/srv/archive", "~/archive", "./archive", Path("archive")])
def test_a_folder_is_named_by_its_path(given: Any) -> None:
    found = archive_of(given)
    assert isinstance(found, ArchiveFolder)
    assert found.path == Path(given).expanduser()


@pytest.mark.parametrize(
    "given", ["tests.unit.app.test_archiving.hook", "tests.unit.app.test_archiving:hook"]
)
def test_a_function_is_imported_by_its_path_when_it_is_called(given: str) -> None:
    found = LazyArchive(given)
    found.check()
    assert archive_of(given) is found.hook is hook
    assert found("{}", "k") is None


@pytest.mark.parametrize(
    "given", ["archive", "no.such.module", "tests.unit.app.test_archiving.none", 5, slow]
)
def test_what_is_none_of_these_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="durable_archive"):
        LazyArchive(given).check()
