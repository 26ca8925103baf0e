"""Every block of Python in README and documentation runs, in a process of its page's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pages.blocks import PAGES, ROOT
from tests.preloaded import shared


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_its_blocks_run(page: Path, tmp_path: Path) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CELERY_", "DJANGO_", "PYTEST_"))
    }
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = shared().run(
        ["-m", "tests.pages", str(page)],
        {**environment, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(tmp_path)},
        tmp_path,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
