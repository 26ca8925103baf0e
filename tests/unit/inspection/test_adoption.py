"""What ``durable adopt`` finds in an application full of mistakes, and in one without any."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner

from celery_durable.cli import durable as commands
from celery_durable.inspection.adoption.kinds import KINDS, Importance

ROOT = Path(__file__).parents[3]
CORPUS = Path(__file__).parent / "corpus" / "adoptable"
PAGE = ROOT / "docs" / "howto" / "adopting.md"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "100"}


def run_celery(place: Path, *arguments: str, code: int = 0, **more: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "celery", *arguments],
        cwd=place, capture_output=True, text=True, env={**ENVIRONMENT, **more},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + (done.stderr if code else "")


def adopted(place: Path, app: str, **more: str) -> Any:
    return json.loads(run_celery(place, "-A", app, "durable", "adopt", "--json", **more))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where no directory above is called ``tests``."""
    place = tmp_path_factory.mktemp("adoptable") / "project"
    shutil.copytree(CORPUS, place, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "clinic" / "broken.py").write_text("def f(:\n")
    return place


@pytest.fixture(scope="module")
def clinic(corpus: Path) -> Any:
    return adopted(corpus, "clinic.app")


def marked(place: Path) -> Counter[tuple[str, int, str]]:
    return Counter(
        (str(path), number, kind)
        for path in [*place.glob("clinic/*.py"), *place.glob("tests/*.py")]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for kind in re.findall(r"# adopt: ([\w-]+)", line)
    )


def test_all_that_was_planted_is_found_by_its_line_and_nothing_else(corpus: Path, clinic) -> None:
    expected = marked(corpus)
    seen = Counter((each["file"], each["line"], each["kind"]) for each in clinic["items"])
    assert sorted((seen - expected).elements()) == []
    assert sorted((expected - seen).elements()) == []
    assert (expected.total(), len({kind for *_, kind in expected})) == (58, 22)
    assert {kind for *_, kind in expected} == set(KINDS) - {"namespace"}


def test_important_things_come_first_and_are_counted(clinic) -> None:
    order = [Importance[each["importance"].upper()] for each in clinic["items"]]
    assert order == sorted(order)
    assert clinic["summary"] == dict(Counter(each["kind"] for each in clinic["items"]))
    assert all(each["why"] and each["action"] and each["found"] for each in clinic["items"])
    assert (clinic["schema"], clinic["app"], clinic["tasks"]) == (1, "clinic", 11)


def test_there_is_no_false_alarm(tmp_path: Path) -> None:
    shutil.copytree(CORPUS / "calm", tmp_path / "calm")
    found = run_celery(tmp_path, "-A", "calm.app", "durable", "adopt")
    assert found.splitlines()[0] == "calm: 4 tasks, 3 files read"
    assert found.splitlines()[1:] == [
        "",
        "Nothing to look at: your tasks can be called by orchestrations as they are.",
    ]


def test_the_example_has_two_things_to_know() -> None:
    place = ROOT / "example_project"
    found = adopted(place, "config", PYTHONPATH=f"{ROOT}{os.pathsep}{place}")
    assert found["summary"] == {"at-least-once": 1, "no-results": 1}
    assert found["tasks"] > 20 and found["files"] > 20


def test_every_page_that_it_names_is_there() -> None:
    assert all((ROOT / "docs" / each.page).is_file() for each in KINDS.values())


def test_a_django_project_without_the_namespace_is_told(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from celery import Celery\n"
        "app = Celery('shop')\n"
        "app.config_from_object('django.conf:settings')\n"
        "@app.task\n"
        "def charge(): ...\n"
    )
    (tmp_path / "settings.py").write_text(
        "SECRET_KEY = 'x'\nbroker_url = 'memory://'\nCELERY_DURABLE_GUARD = 'warn'\n"
    )
    found = adopted(tmp_path, "shop", DJANGO_SETTINGS_MODULE="settings")
    places = {each["kind"]: (Path(each["file"]).name, each["line"]) for each in found["items"]}
    assert places["unread-setting"] == ("settings.py", 3)
    assert places["namespace"] == ("shop.py", 2)


def test_a_file_that_cannot_be_read_is_named(clinic) -> None:
    assert len(clinic["unread"]) == 1 and "broken.py: " in clinic["unread"][0]


def test_modules_that_cannot_be_imported_are_told_of() -> None:
    app = Celery("shop", set_as_current=False, include=["missing_module"])
    done = CliRunner().invoke(commands, ["adopt"], obj=app)
    assert done.exit_code == 78 and "No module named 'missing_module'" in done.stderr


def test_without_an_application_it_says_how_to_name_one(tmp_path: Path) -> None:
    assert "celery -A ... durable adopt" in run_celery(tmp_path, "durable", "adopt", code=2)
    bare = Celery("bare", set_as_current=False)
    done = CliRunner().invoke(commands, ["list"], obj=bare)
    assert done.exit_code == 78 and "celery -A ... durable adopt" in done.stderr


def test_the_page_shows_what_it_prints(tmp_path: Path) -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "shop.py").write_text(next(text for kind, text in blocks if kind == "python"))
    shown = next(text for kind, text in blocks if kind == "console")
    command, _, expected = shown.partition("\n")
    assert command.startswith("$ celery ")
    printed = run_celery(tmp_path, *command.split()[2:])
    assert [line.rstrip() for line in printed.strip().splitlines()] == expected.strip().splitlines()
