"""What the lint finds in code that is full of mistakes, and in code without any."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from celery_durable.inspection.lint import Finding, lint

CORPUS = Path(__file__).parent / "corpus"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"corpus_{name}", CORPUS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def found_in(module: ModuleType) -> tuple[int, set[Finding]]:
    registry = module.durable.registry
    module.app.finalize()
    names = [name for name in registry.names() if name.startswith(("bad.", "good."))]
    found = {each for name in names for each in lint(name, registry.get(name, None).function)}
    return len(names), found


def marked(name: str) -> set[tuple[int, str]]:
    return {
        (number, what.strip())
        for number, line in enumerate((CORPUS / f"{name}.py").read_text().splitlines(), 1)
        for what in re.findall(r"# finds: ([^#\n]*)", line)
    }


@pytest.fixture(scope="module")
def bad() -> tuple[int, set[Finding]]:
    return found_in(loaded("orchestrators_bad"))


def test_every_planted_mistake_is_found_by_its_line_and_nothing_else(bad) -> None:
    expected = marked("orchestrators_bad")
    seen = {(each.line, each.what) for each in bad[1]}
    assert seen - expected == set()
    assert expected - seen == set()
    assert (bad[0], len(expected)) == (14, 56)


def test_each_says_what_to_do(bad) -> None:
    assert all(each.instead and each.orchestrator.startswith("bad.") for each in bad[1])


def test_there_is_no_false_alarm() -> None:
    number, found = found_in(loaded("orchestrators_good"))
    assert [str(each) for each in found] == []
    assert number == 10
