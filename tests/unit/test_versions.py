"""The oldest version of each library: the package, its metadata and the environment that runs them
say the same.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from celery_durable.errors import ConfigurationError
from celery_durable.store.database import Database
from celery_durable.versions import OLDEST, demand

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
[ALL] = EXTRAS["all"]
FOR_USERS = re.findall(r"\w+", ALL.partition("[")[2])
FLOOR = re.compile(r"([a-z-]+)(?:\[\w+\])?>=([\d.]+)(?:,<\d+)?")


def declared() -> dict[str, str]:
    """Return the floors of what users install, by library."""
    lines = [*PROJECT["dependencies"], *(line for name in FOR_USERS for line in EXTRAS[name])]
    return dict(FLOOR.fullmatch(line).groups() for line in lines if line != "celery[redis]")  # type: ignore[union-attr]


def pinned() -> dict[str, str]:
    """Return what the environment with the oldest libraries has."""
    lines = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))  # type: ignore[misc]


def release(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    return (*numbers, *[0] * (4 - len(numbers)))


def test_users_get_what_the_package_demands() -> None:
    floors = declared()
    assert {name: floors[name] for name in OLDEST} == OLDEST
    # the application's, not imported by the package
    assert floors.keys() - OLDEST.keys() == {"opentelemetry-sdk"}


def test_the_oldest_environment_has_the_oldest_of_each() -> None:
    assert {name: release(version) for name, version in pinned().items() if name != "redis"} == {
        name: release(version) for name, version in declared().items()
    }


@pytest.mark.parametrize("name", OLDEST)
def test_a_library_that_is_too_old_is_named_with_both_versions(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda asked: {name: "0.9.1"}.get(asked, "99"))
    with pytest.raises(ImportError) as caught:
        demand(*OLDEST)
    assert (
        str(caught.value)
        == f"celery-durable needs {name} {OLDEST[name]} or later, but 0.9.1 is installed: pip"
        f" install '{name}>={OLDEST[name]}'"
    )
    assert caught.value.name == name


@pytest.mark.parametrize(
    "found", ["5.5", "5.5.0", "5.5.0rc1", "5.10", "6.0.0.dev0+local", "not a version at all, 6"]
)
def test_what_is_new_enough_passes(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: found)
    if found.startswith("not"):
        with pytest.raises(ImportError, match="not a version"):
            demand("celery")
    else:
        demand("celery")


def test_what_is_not_installed_is_left_to_its_importer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OLDEST, "no-such-library", "1")
    demand("no-such-library", "celery")


@pytest.mark.parametrize("library", ["celery", "kombu", "sqlalchemy", "alembic"])
def test_the_import_of_the_package_ends_with_one_clear_line(library: str, tmp_path: Path) -> None:
    """As with a real installation that is too old: its metadata comes first on the path."""
    info = tmp_path / f"{library}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: 1.0\n")
    done = subprocess.run(
        [sys.executable, "-c", "import celery_durable"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: celery-durable needs {library} {OLDEST[library]} or later, but 1.0 is"
        " installed:"
    )
    assert f"site-packages/{library}" not in done.stderr, (
        "nothing of the library itself was imported"
    )


@pytest.mark.parametrize(
    ("driver", "url"),
    [("psycopg", "postgresql+psycopg://u:s3cret@h/d"), ("pymysql", "mysql+pymysql://u:s3cret@h/d")],
)
def test_a_driver_that_is_too_old_is_a_mistake_of_configuration(
    driver: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "0.1")
    with pytest.raises(
        ConfigurationError, match=f"too old.*needs {driver}.*0.1 is installed"
    ) as caught:
        _ = Database(url).engine
    assert "s3cret" not in str(caught.value)
