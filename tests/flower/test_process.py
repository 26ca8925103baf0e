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
        and "order/42" in listed.text.replace("<wbr>", "")
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


CODE = """
import json, sys
from celery import Celery
from celery_durable import Durable

def loaded():
    return list(sys.modules)

one, two = Celery("one", broker="memory://"), Celery("two", broker="memory://")
Durable(one)
one.loader.import_default_modules()
without = loaded()
import celery.bin.celery
Durable(Celery("another", broker="memory://"))
with_commands = loaded()
from flower.app import Flower
from flower.options import options
from flower.urls import settings
options.port = 0
first, second = (Flower(capp=app, options=options, **settings) for app in (one, two))
Durable(two)
urls = []
for flower in (first, second):
    flower.io_loop.add_callback(flower.io_loop.stop)
    flower.start()
    urls.append(flower.reverse_url("durable-list"))
print(json.dumps([without, with_commands, urls]))
"""


def ours(loaded: list[str]) -> list[str]:
    return [name for name in loaded if name.startswith("celery_durable.contrib")]


def test_who_does_not_run_flower_loads_next_to_nothing_of_it() -> None:
    """Nothing without Celery's commands, and with them the entrance: ``celery worker`` imports
    Flower's command where it is installed, for that is a plug-in of celery's.

    Flower may be imported after the app, and even be made before the app has its orchestrations.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    without, with_commands, urls = json.loads(done.stdout.splitlines()[-1])
    assert "celery_durable.app" in without
    assert not ours(without)
    assert not [name for name in without if name.startswith(("flower", "tornado"))]
    assert "flower.app" in with_commands
    assert ours(with_commands) == ["celery_durable.contrib", "celery_durable.contrib.flower"]
    assert urls == ["/orchestrations", "/orchestrations"]
