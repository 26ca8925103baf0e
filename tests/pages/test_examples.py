"""The examples of the documentation pass their own tests, and are in a page as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pages.blocks import PAGES, ROOT, blocks_of
from tests.preloaded import shared

EXAMPLES = ROOT / "docs" / "examples"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_it_is_in_a_page(path: Path) -> None:
    blocks = [block.source.lstrip("\n") for page in PAGES for block in blocks_of(page)]
    assert path.read_text() in blocks


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_tests_pass(folder: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment["PYTHONPATH"] = f"{folder}{os.pathsep}{ROOT}"
    options = ["-q", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    done = shared().run(["-m", "pytest", *options, str(folder)], environment, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
