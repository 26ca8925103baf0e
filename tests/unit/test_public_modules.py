"""Pages and examples import public modules only, and the page of modules lists modules that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/modules.md"
PUBLIC = set(re.findall(r"^\| `(celery_durable[\w.]*)` \|", PAGE.read_text(), re.MULTILINE))
IMPORT = re.compile(
    r"^\s*(?:>>> )?(?:from (celery_durable[\w.]*) import|import (celery_durable[\w.]*))", re.M
)
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "example_project").rglob("*.md")),
    *sorted((ROOT / "docs" / "examples").rglob("*.py")),
    *sorted((ROOT / "example_project").rglob("*.py")),
]
PACKAGES = ("app", "broker", "core", "engine", "handles", "inspection", "store", "worker")


def is_for_users(page: Path) -> bool:
    return "internals" not in page.parts


@pytest.mark.parametrize("page", list(filter(is_for_users, PAGES)), ids=lambda page: page.name)
def test_page_imports_public_modules_only(page: Path) -> None:
    found = {one or other for one, other in IMPORT.findall(page.read_text())}
    assert found <= PUBLIC, f"not public: {sorted(found - PUBLIC)}; see {PAGE.relative_to(ROOT)}"


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in PUBLIC
        if not {"django", "prometheus", "otel_metrics"} & set(name.split("."))
    ),
)
def test_public_module_is_there(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize("name", PACKAGES)
def test_internal_package_says_so(name: str) -> None:
    text = (ROOT / "celery_durable" / name / "__init__.py").read_text()
    assert text.startswith('"""Internal')


def test_architecture_names_modules_that_exist() -> None:
    text = (ROOT / "docs/internals/architecture.md").read_text()
    named = set(
        re.findall(
            r"`((?:app|core|engine|handles|inspection|store|worker)/[\w/]+?)(?:\.py)?/?`", text
        )
    )
    missing = [
        name
        for name in sorted(named)
        if not (ROOT / "celery_durable" / name).is_dir()
        and not (ROOT / "celery_durable" / f"{name}.py").is_file()
    ]
    assert len(named) > 20
    assert not missing
