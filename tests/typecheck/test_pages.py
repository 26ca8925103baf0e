"""The blocks of Python in README and documentation, as a strict type checker reads them.

A page leaves out what its reader does not need: annotations, and names that the page takes for
granted. ``ctx`` is given its type here, as a typed program does it; a name that no block defines
comes from the page's scenery, or is not looked at (``tests/pages`` sees to names).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mypy import api

from tests.pages.blocks import PAGES, ROOT, Block, blocks_of, scenery_of

pytestmark = pytest.mark.full

#: What blocks leave out for shortness.
LEFT_OUT = (
    "name-defined",  # names that a page takes for granted
    "no-redef",  # a page shows one thing in several ways
    "no-untyped-def",
    "no-untyped-call",
    "type-arg",
    "untyped-decorator",  # Celery's
    "unused-ignore",
    "misc",  # classes of libraries without types as bases
)
#: Mistakes of a page: one that needs the type of ``ctx``, and one that does not.
PLANTED = """
from celery_durable import Durable

durable = Durable()

@durable.orchestrator
async def fulfil(ctx, order: str) -> int:
    await ctx.sleep("1 hour")
    return 3

durable.start(fulfil.s())
"""
_ERROR = re.compile(r"(\w+)\.py:(\d+): error: (.*)")


class _Annotate(ast.NodeVisitor):
    """Finds where the type of ``ctx`` is left out."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []

    def _look(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for each in node.args.args[:1]:
            if each.arg == "ctx" and each.annotation is None and each.end_col_offset is not None:
                self.places.append((each.lineno, each.end_col_offset))
        self.generic_visit(node)

    visit_FunctionDef = visit_AsyncFunctionDef = _look  # noqa: N815


def typed(source: str) -> str:
    """Give ``ctx`` its type, wherever a block leaves it out."""
    finder, lines = _Annotate(), source.splitlines()
    finder.visit(ast.parse(source))
    for line, column in sorted(finder.places, reverse=True):
        text = lines[line - 1].encode()
        lines[line - 1] = (
            text[:column] + b": _durable.OrchestrationContext" + text[column:]
        ).decode()
    return "\n".join(lines) + "\n"


def modules_of(page: Path) -> Iterator[tuple[str, Block, str]]:
    """The name and the text of a module for each block, which knows what those before it define."""
    before = f"tests.pages.scenery.{scenery_of(page)}"
    for block in blocks_of(page):
        name = f"page_{scenery_of(page)}_{block.number}"
        head = f"import celery_durable as _durable; from {before} import *"
        yield name, block, head + typed(block.source)
        before = name


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[str]]:
    """What mypy says of each page; it looks at all of them in one run."""
    place = tmp_path_factory.mktemp("pages")
    blocks: dict[str, Block] = {}
    for page in PAGES:
        for name, block, text in modules_of(page):
            blocks[name] = block
            (place / f"{name}.py").write_text(text)
    planted = place / "planted.py"
    planted.write_text("import celery_durable as _durable" + typed(PLANTED))
    blocks["planted"] = Block(planted, 0, 0, PLANTED)
    (place / "mypy.ini").write_text(f"[mypy]\nmypy_path = {place}:{ROOT}\n")
    out, err, _ = api.run(
        [
            "--strict",
            "--follow-imports=silent",
            f"--python-executable={sys.executable}",
            f"--config-file={place / 'mypy.ini'}",
            "--ignore-missing-imports",
            "--implicit-reexport",
            *(f"--disable-error-code={code}" for code in LEFT_OUT),
            f"--cache-dir={place / 'cache'}",
            *(str(place / f"{name}.py") for name in blocks),
        ]
    )
    assert not err, err
    errors: dict[Path, list[str]] = {page: [] for page in (*PAGES, Path("planted.py"))}
    for error in _ERROR.finditer(out):
        block = blocks[error[1]]
        page = Path("planted.py") if block.page == planted else block.page
        errors[page].append(f"{block.page.name}:{error[2]}: {error[3]}")
    return errors


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_strict_checker_accepts_the_blocks(page: Path, found: dict[Path, list[str]]) -> None:
    assert found[page] == [], "\n".join(found[page])


def test_mistakes_of_a_page_are_found(found: dict[Path, list[str]]) -> None:
    first, second = found[Path("planted.py")]
    assert re.search(r'planted.py:8: .*incompatible type "str"', first)
    assert re.search(r'planted.py:11: .*Missing positional argument "order"', second)
