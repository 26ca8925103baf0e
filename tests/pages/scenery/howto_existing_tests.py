"""What the page on existing tests takes for granted: a shop with two views, and a directory for what
the page keeps in files.
"""

import os
import sys
from pathlib import Path
from unittest.mock import MagicMock, patch

import pytest

from celery_durable.errors import PayloadError
from tests.pages.blocks import ROOT, blocks_of
from tests.pages.scenery import django_project

_OF_A_FILE = "in a file of its own, below"
PAGE = ROOT / "docs" / "howto" / "existing-tests.md"
SKIPPED = {number: _OF_A_FILE for number in (0, 6, 7, 8)}
shop, *FILES = (block for block in blocks_of(PAGE) if block.source.lstrip().startswith("# "))
Path("bank.py").write_text('def charge(order, amount): return f"{order} paid {amount}"')
Path("shop.py").write_text(shop.source)
sys.path.insert(0, str(Path.cwd()))
sys.modules.pop("shop")  # the project in Django's; this page has a shop of its own

import bank  # noqa: E402

from shop import app, charge, durable, fulfil_order  # noqa: E402


def prove(names):
    names["test_a_view_charges"]()
    names["test_a_view_starts_an_order"]()
    names["test_eagerly"]()
    app.conf.task_always_eager = False
    folder = Path("suite")
    folder.mkdir()
    for block in FILES:
        name, _, text = block.source.lstrip().partition("\n")
        (folder / name.removeprefix("# ")).write_text(text)
    options = ["-q", "-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider"]
    sys.path.insert(0, str(folder.absolute()))
    assert pytest.main([*options, str(folder)]) == pytest.ExitCode.OK


def end(env, names):
    names["test_an_order_is_charged"](env)
    with patch.object(charge, "run", return_value="R-2"):
        assert env.run(fulfil_order.s("42", 99)) == "R-2"
    names["test_the_bank_is_patched"](env)
    with patch.object(bank, "charge", MagicMock()):
        failed = env.start(fulfil_order.s("42", 99))
        env.advance(hours=1)
    assert isinstance(failed.refresh().failure, PayloadError)
    before = len(env.calls(charge))
    with patch.object(charge, "delay") as delay:
        env.run(fulfil_order.s("42", 99))
    assert (delay.called, len(env.calls(charge))) == (False, before + 1)
    with patch.object(env, "calls", lambda task, seen=len(env.calls(charge)): _calls(env, seen)):
        names["test_the_bank_refuses_once"](env)


def _calls(env, seen):
    return type(env).calls(env, charge)[seen:]
