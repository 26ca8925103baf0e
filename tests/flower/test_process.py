"""``celery -A app flower`` as a user runs it, beside a real worker.

And what it costs those who do not run it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from http.cookies import SimpleCookie
from typing import Any

import pytest
from flower.options import options

from tests.conftest import wait_until
from tests.flower.conftest import HERE, Stage, basic
from tests.nodes import ROOT

USER = basic("ann", "secret")


def test_a_user_looks_and_steers(stage: Stage, new_flower: Callable[..., Any]) -> None:
    """No configuration: the tab, plain Flower's tasks, metrics.

    With a prefix and basic authentication.
    """
    flower = new_flower(stage, "--basic-auth=ann:secret", "--url-prefix=mon")
    run = stage.waiting(
        stage.module.order.apply_async((1,), {"secret": "hunter2"}, task_id="order/42")
    )
    flower.wait_ready("/mon/healthcheck")

    for path in ("orchestrations", "orchestrations/show?id=order%2F42"):
        assert flower.get(f"/mon/{path}").status == 401
        assert flower.get(f"/mon/{path}", basic("ann", "wrong")).status == 401
    listed = flower.get("/mon/orchestrations", USER)
    assert (
        listed.status == 200
        and "order/42" in listed.text
        and 'id="durable-tab"' in flower.get("/mon/tasks", USER).text
    )
    assert 'id="durable-tab"' in listed.text and flower.get("/orchestrations", USER).status == 404
    page = flower.get("/mon/orchestrations/show?id=order%2F42", USER)
    assert "durable-timeline" in page.text and "event &#x27;go&#x27;" in page.text.replace(
        "&#39;", "&#x27;"
    )

    cookie = SimpleCookie(page.headers["Set-Cookie"])["_xsrf"].value
    action = unescape(re.search(r'action="([^"]+/act[^"]+)"', page.text)[1])  # type: ignore[index]
    form = {"verb": "raise_event", "event": "go", "data": '"now"', "confirm": "yes"}
    assert flower.post(action, form, USER).status == 403, "no token"
    assert run.refresh().runtime_status == "RUNNING"
    answer = flower.post(action, {**form, "_xsrf": cookie}, {**USER, "Cookie": f"_xsrf={cookie}"})
    assert answer.status == 303 and run.get(timeout=300) == [2, "now"]

    def task() -> Any:
        return json.loads(flower.get("/mon/api/tasks", USER).text).get("order/42")

    wait_until(
        lambda: (task() or {}).get("state") == "SUCCESS", what="Flower's own page of the task"
    )
    assert (task()["name"], task()["args"], task()["result"]) == (
        "flowerapp.order",
        "(1,)",
        "[2, 'now']",
    )
    metrics = flower.get("/mon/metrics").text
    assert (
        "celery_durable_up 1.0" in metrics
        and "order/42" not in metrics
        and "hunter2" not in metrics
    )
    assert "Traceback" not in flower.log.read_text()


@pytest.mark.skipif(not hasattr(options, "read_only"), reason="Flower has --read-only since 2.1")
def test_read_only(stage: Stage, new_flower: Callable[..., Any]) -> None:
    flower = new_flower(stage, "--basic-auth=ann:secret", "--read-only")
    run = stage.waiting(stage.module.order.delay(1))
    flower.wait_ready()
    page = flower.get(f"/orchestrations/show?id={run.id}", USER)
    assert page.status == 200 and 'method="post"' not in page.text
    cookie = SimpleCookie(page.headers["Set-Cookie"])["_xsrf"].value
    form = {"verb": "terminate", "reason": "r", "confirm": "yes", "_xsrf": cookie}
    assert (
        flower.post(
            f"/orchestrations/act?id={run.id}", form, {**USER, "Cookie": f"_xsrf={cookie}"}
        ).status
        == 403
    )
    assert run.refresh().runtime_status == "RUNNING"
    run.terminate(reason="done")


def python(code: str) -> str:
    """Run code in a process of its own; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_flower_nothing_of_it_is_imported() -> None:
    loaded = python(
        "import sys; from celery import Celery; from celery_durable import Durable; app = Celery();"
        " Durable(app);app.loader.import_default_modules(); print(*sys.modules)"
    ).split()
    assert "celery_durable.app" in loaded
    assert not [
        name for name in loaded if name.startswith(("flower", "tornado", "celery_durable.contrib"))
    ]


@pytest.mark.full
def test_other_commands_load_next_to_nothing_of_the_tab() -> None:
    """``celery worker`` imports Flower's command where it is installed, for that is a plug-in of
    celery's.
    """
    loaded = python(
        "import sys, celery.bin.celery; from celery import Celery; from celery_durable import"
        " Durable; Durable(Celery());print(*sys.modules)"
    ).split()
    assert "flower.app" in loaded
    ours = [name for name in loaded if name.startswith("celery_durable.contrib")]
    assert ours == ["celery_durable.contrib", "celery_durable.contrib.flower"]


@pytest.mark.full
def test_flower_may_be_imported_after_the_app() -> None:
    """And even be made before the app has its orchestrations."""
    printed = python(
        "from celery import Celery; from celery_durable import Durable\none = Celery('one',"
        " broker='memory://'); Durable(one)\ntwo = Celery('two', broker='memory://')\nfrom"
        " flower.app import Flower; from flower.urls import settings; from flower.options import"
        " options\noptions.port = 0\nfirst, second = (Flower(capp=app, options=options, **settings)"
        " for app in (one, two))\nDurable(two)\nfor flower in (first, second):\n   "
        " flower.io_loop.add_callback(flower.io_loop.stop)\n    flower.start()\n   "
        " print(flower.reverse_url('durable-list'))\n"
    )
    assert printed.split() == ["/orchestrations", "/orchestrations"]
