"""Every ``celery -A shop durable ...`` and ``manage.py durable ...`` in the pages names a command
that there is, with options that it has.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from celery_durable.cli import durable
from tests.pages.blocks import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "example_project" / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "internals" not in path.parts),
]
LISTED = re.compile(r'\["celery", "-A", "shop", "durable", (.*?)\]')
FENCE = re.compile(r"^```(yaml|ini)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:celery -A [\w.:]+|manage\.py) durable ([^`\n#&]+)")

WORD = re.compile(r"[a-z]+")


def _commands(page: Path) -> list[str]:
    text = page.read_text()
    listed = [shlex.join(json.loads(f"[{found}]")) for found in LISTED.findall(text)]
    return [*(found.strip() for found in COMMAND.findall(text)), *listed]


def _complaint(text: str) -> str | None:
    """Say what is wrong with a command; or None."""
    words = shlex.split(text)
    command: click.Command = durable
    while isinstance(command, click.Group) and words and WORD.fullmatch(words[0]):
        word = words.pop(0)
        found = command.get_command(click.Context(command), word)
        if found is None:
            return f"there is no command {word!r}"
        command = found
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    given = {word.partition("=")[0].strip("[],.") for word in words if word.startswith("-")}
    unknown = given - known - {"--help"}
    return f"no option {sorted(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_there(page: Path) -> None:
    complaints = [
        f"{text}: {complaint}" for text in _commands(page) if (complaint := _complaint(text))
    ]
    assert complaints == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_can_be_read(page: Path) -> None:
    for language, text in FENCE.findall(page.read_text()):
        if language == "yaml":
            assert {"apiVersion", "kind", "spec"} <= set(yaml.safe_load(text))
        else:
            unit = configparser.ConfigParser(interpolation=None)
            unit.read_string(text)
            assert set(unit) >= {"Unit", "Service", "Install"}


def test_a_wrong_command_is_found() -> None:
    assert _complaint("stroll order-42") == "there is no command 'stroll'"
    assert _complaint("list --colour red") == "no option ['--colour']"
    assert _complaint("list --status failed --since 1d") is None
    assert sum(len(_commands(page)) for page in PAGES) >= 15
