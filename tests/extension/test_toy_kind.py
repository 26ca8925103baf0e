"""A kind of command added to the registry works everywhere, without an edit anywhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from celery_durable.cli import durable as group
from celery_durable.engine.draft import CHECK_AFTER
from celery_durable.engine.writes import NewInbox
from celery_durable.errors import InvalidState
from celery_durable.http import BearerTokens, Token, application
from celery_durable.timeline import timeline_of
from tests.django.admin.conftest import Site, migrated, site, store  # noqa: F401  fixtures
from tests.http.client import Client
from tests.telemetry.conftest import Spans, provider, spans, traced  # noqa: F401  fixtures

from .toy_kind import ANSWERED, ANSWERS, plugged_in

SECRET = "a-token-that-may-look"  # noqa: S105  of a test


@pytest.fixture(autouse=True)
def oracle() -> Iterator[None]:
    with plugged_in():
        yield


async def two_questions(ctx: Any) -> Any:
    return [await ctx.ask_oracle("when?"), await ctx.ask_oracle("where?")]


@pytest.fixture
def durable(new_app: Callable[..., Any]) -> Any:
    """A temple whose orchestrations ask two questions."""
    found = new_app(task_always_eager=True, task_ignore_result=True).durable
    found.orchestrator(two_questions, name="toy.asks")
    return found


def start(durable: Any, id_: str = "a") -> Any:
    return durable.start(durable.app.tasks["toy.asks"].s(), instance_id=id_)


def answer(durable: Any, run: Any, number: int, value: Any) -> None:
    """Answer a question from outside, as a worker of the oracle would."""
    runtime = durable.runtime
    message = NewInbox(
        run.id,
        ANSWERED,
        f"oracle:{number}",
        execution=run.refresh()._known.execution,
        command=number,
        payload=runtime.codec.encode(value),
        check_after=CHECK_AFTER,
    )
    runtime.store.inbox.put([message])
    runtime.runner.run(run.id)


def kinds_of(run: Any) -> list[str]:
    return [str(event.kind) for event in run.history()]


# -- the engine ------------------------------------------------------------------------------------


def test_it_is_asked_and_answered(durable: Any) -> None:
    ANSWERS.update({"when?": ["soon"], "where?": ["here"]})
    run = start(durable)
    assert run.wait(timeout=60) == ["soon", "here"]
    assert kinds_of(run) == [
        "ExecutionStarted",
        "OracleAsked",
        "OracleAnswered",
        "OracleAsked",
        "OracleAnswered",
        "ExecutionCompleted",
    ]
    [_, first, _, second, _, _] = run.history()
    assert (first.name, first.number, second.name) == ("when?", 2, "where?")
    assert durable.replay(run.export_history()) == 6


def test_what_comes_late_or_twice_leaves_no_trace(durable: Any) -> None:
    run = start(durable)
    answer(durable, run, 1, "soon")
    answer(durable, run, 1, "sooner")
    answer(durable, run, 2, "here")
    assert run.wait(timeout=60) == ["soon", "here"]
    answer(durable, run, 2, "there")
    assert kinds_of(run).count("OracleAnswered") == 2


def test_explain_says_that_it_is_waited_for(durable: Any) -> None:
    run = start(durable)
    assert run.explain().waits_for == ["the oracle: 'when?'"]
    answer(durable, run, 1, "soon")
    assert run.explain().waits_for == ["the oracle: 'where?'"]


def test_a_cancel_reaches_it(durable: Any) -> None:
    run = start(durable)
    run.cancel("enough")
    assert str(run.refresh().runtime_status) == "CANCELED"


def test_a_fork_asks_again(durable: Any) -> None:
    run = start(durable)
    answer(durable, run, 1, "soon")
    fork = run.fork(at=3, new_id="b")
    assert kinds_of(fork)[-1] == "OracleAsked"
    assert fork.explain().waits_for == ["the oracle: 'where?'"]
    answer(durable, fork, 2, "elsewhere")
    assert fork.wait(timeout=60) == ["soon", "elsewhere"]
    assert str(run.refresh().runtime_status) == "RUNNING"


def test_a_rewind_keeps_what_was_answered_and_asks_what_failed(durable: Any) -> None:
    ANSWERS.update({"when?": ["soon"], "where?": [ValueError("fog"), "here"]})
    run = start(durable)
    with pytest.raises(ValueError, match="fog"):
        run.wait(timeout=60)
    assert "fog" in str(run.explain().last_error) + str(run.explain())
    run.rewind("the fog has gone")
    assert run.wait(timeout=60) == ["soon", "here"]
    assert kinds_of(run).count("OracleFailed") == 1
    with pytest.raises(InvalidState):
        run.rewind()


# -- what people see -------------------------------------------------------------------------------


def test_the_timeline_has_its_rows(durable: Any) -> None:
    ANSWERS["when?"] = ["soon"]
    run = start(durable)
    lanes = [(lane.kind, lane.label, lane.outcome) for lane in timeline_of(run).lanes]
    assert lanes[1:] == [("oracle", "when?", "completed"), ("oracle", "where?", "live")]


def run_command(durable: Any, *args: str) -> str:
    result = CliRunner().invoke(group, list(args), obj=SimpleNamespace(app=durable.app))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_line_shows_it(durable: Any) -> None:
    ANSWERS["when?"] = ["soon"]
    start(durable)
    assert "the oracle: 'where?'" in run_command(durable, "explain", "a")
    assert json.loads(run_command(durable, "show", "a", "--format", "json"))["status"] == "RUNNING"
    history = run_command(durable, "history", "a", "--payloads")
    assert history.count("OracleAsked") == 2
    assert history.count("OracleAnswered") == 1
    picture = run_command(durable, "show", "a", "--mermaid")
    assert "section when_" in picture
    assert "section where_" in picture
    assert "oracle" in run_command(durable, "show", "a", "--html", "-")


def test_http_gives_its_events(durable: Any) -> None:
    ANSWERS["when?"] = ["soon"]
    start(durable)
    client = Client(
        application(durable, BearerTokens(Token(SECRET, ["view", "view_payload"]))), SECRET
    )
    shown = client.get("/instances/a?showHistory=true&showHistoryOutput=true").json
    _, asked, answered, _ = shown["historyEvents"]
    assert (asked["EventType"], asked["Name"]) == ("OracleAsked", "when?")
    assert (answered["Name"], answered["Result"]) == ("when?", "soon")
    assert answered["ScheduledTime"] == asked["Timestamp"]


def test_a_trace_has_a_span_of_each_wait(traced: Any, spans: Spans) -> None:  # noqa: F811
    ANSWERS.update({"when?": ["soon"], "where?": ["here"]})
    traced.durable.orchestrator(two_questions, name="toy.traced")
    run = traced.durable.start(traced.tasks["toy.traced"].s(), instance_id="a")
    assert run.wait(timeout=60) == ["soon", "here"]
    assert len(spans.named("orchestration:toy.traced:oracle")) == 2


def test_the_page_of_the_admin_shows_it(site: Site) -> None:  # noqa: F811
    ANSWERS["when?"] = ["soon"]
    task = site.durable.orchestrator(two_questions, name="toy.asks.admin")
    site.start(task, id="order-1")
    page = site.page("order-1")
    assert "OracleAsked" in page.text
    assert "the oracle: 'where?'" in page.text
