"""What the page on existing tests takes for granted: a shop with two views, and a directory for what
the page keeps in files.
"""

import os
import sys
from pathlib import Path
from unittest.mock import MagicMock, patch

import pytest
from celery import Celery

from celery_durable import Durable, RetryPolicy
from celery_durable.errors import PayloadError
from tests.pages.blocks import ROOT, blocks_of
from tests.pages.scenery import django_project

app = Celery("shop", broker="memory://", backend="cache+memory://")
durable = Durable(app)
tmp_path = Path.cwd()
PAGE = ROOT / "docs" / "howto" / "existing-tests.md"
SKIPPED = {5: "in a file of its own, below", 6: "in a file of its own, below"}
TASKS = """
from celery import shared_task
from celery_durable import orchestrator

@shared_task
def charge(order):
    return f"{order} is paid"

@orchestrator
async def sale(ctx, order):
    return [await ctx.call(charge.s(order)), await ctx.wait_event("approved")]
"""


class bank:
    """Of the activity."""

    @staticmethod
    def charge(order, amount):
        return f"{order} paid {amount}"


@app.task
def charge(order, amount):
    return bank.charge(order, amount)


@durable.orchestrator
async def fulfil_order(ctx, order, amount):
    return await ctx.call(charge.s(order, amount), retry=RetryPolicy(max_attempts=3))


def view(order):
    charge.delay(order, 99)


def new_view(order):
    fulfil_order.delay(order, 99)


def prove(names):
    names["test_a_view_charges"]()
    names["test_a_view_starts_an_order"]()
    names["test_eagerly"]()
    app.conf.task_always_eager = False
    conftest, tests = (
        block.source for block in blocks_of(PAGE) if "celery_session" in block.source
    )
    folder = Path("suite")
    folder.mkdir()
    for name, text in {"conftest": conftest, "test_shop": tests, "tasks": TASKS}.items():
        (folder / f"{name}.py").write_text(text)
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
