"""What a timeline tells of orchestrations that really ran, and of those that still do."""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celery_durable import InstanceNotFound
from celery_durable.inspection.drawing import page, svg
from celery_durable.inspection.timeline import MOST_LANES, Lane, Timeline, timeline_of
from celery_durable.inspection.views import current_waits
from tests.conftest import wait_until


@pytest.fixture
def app(new_app: Callable[..., Any]) -> Any:
    """An application whose activities run at once, except those of the queue that nobody
    consumes.
    """
    app = new_app(task_always_eager=True, task_ignore_result=True)
    failures: list[int] = []

    @app.task(name="charge")
    def charge(amount: int) -> int:
        if amount < 0 and len(failures) < -amount:
            failures.append(amount)
            raise ValueError("card declined")
        return amount

    @app.durable.orchestrator(name="approval")
    async def approval(ctx: Any, amount: int) -> Any:
        await ctx.call(charge.s(amount))
        return await ctx.wait_event("approved")

    @app.durable.orchestrator(name="nap")
    async def nap(ctx: Any) -> None:
        await ctx.sleep(3600)

    @app.durable.orchestrator(name="parent")
    async def parent(ctx: Any) -> Any:
        return await ctx.call(approval.s(1).set(task_id="the-child"))

    return app


def start(app: Any, name: str, *args: Any) -> Timeline:
    return timeline_of(app.durable.start(app.tasks[name].s(*args), instance_id=name))


def lane(timeline: Timeline, kind: str) -> Lane:
    [found] = [each for each in timeline.lanes if each.kind == kind]
    return found


def test_what_waits_for_an_event_reaches_to_now(app: Any) -> None:
    found = start(app, "approval", 5)
    assert (found.instance_id, found.name, found.status, found.hidden) == (
        "approval",
        "approval",
        "RUNNING",
        0,
    )
    assert [each.kind for each in found.lanes] == ["orchestration", "activity", "event"]
    waits = lane(found, "event")
    assert (waits.label, waits.outcome, waits.segments[-1].kind) == ("approved", "live", "waiting")
    assert waits.segments[-1].end == found.now == found.end
    assert lane(found, "activity").outcome == "completed"
    assert found.begin.tzinfo is UTC


def test_an_event_that_came_ends_its_wait_and_the_orchestration(app: Any) -> None:
    start(app, "approval", 5)
    app.durable.raise_event("approval", "approved", True)
    run = app.durable.get("approval")
    assert run.get(timeout=300) is True
    found = timeline_of(run.refresh())
    assert (found.status, found.now, found.end) == ("COMPLETED", None, run.completed_at)
    assert {each.outcome for each in found.lanes} == {"completed"}
    assert lane(found, "event").segments[0].begin >= lane(found, "activity").segments[-1].end


def test_a_timer_is_told_with_the_moment_it_is_due(app: Any) -> None:
    start(app, "nap")
    later = datetime.now(UTC) + timedelta(minutes=5)
    timer = lane(timeline_of(app.durable.get("nap"), now=later), "timer")
    assert timer.segments[0].end == later
    assert timer.note.startswith("due 20")


def test_a_failure_is_told_and_a_rewind_continues_in_its_lane(app: Any) -> None:
    run = app.durable.start(app.tasks["approval"].s(-1), instance_id="approval")
    failed = timeline_of(run.refresh())
    assert (failed.status, lane(failed, "activity").outcome) == ("FAILED", "failed")
    assert "card declined" in lane(failed, "activity").segments[-1].note
    assert "card declined" in failed.lanes[0].note
    run.rewind(reason="the bank is back")
    again = timeline_of(run.refresh())
    kinds = [
        segment.kind for segment in lane(again, "activity").segments if segment.kind != "queued"
    ]
    assert kinds == ["failed", "running"]
    assert lane(again, "activity").outcome == "completed"
    assert [(mark.kind, mark.note) for mark in again.marks] == [("rewound", "the bank is back")]


def test_a_child_and_a_suspension_are_seen(app: Any) -> None:
    start(app, "parent")
    run = app.durable.get("parent")
    run.suspend("stop")
    found = timeline_of(run.refresh())
    assert (lane(found, "child").note, lane(found, "child").outcome) == ("the-child", "live")
    assert [(mark.kind, mark.note) for mark in found.marks] == [("suspended", "stop")]
    assert (found.lanes[0].segments[-1].kind, found.lanes[0].segments[-1].note) == (
        "waiting",
        "suspended",
    )


def test_a_delayed_start_is_queued(app: Any) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    run = app.durable.start(app.tasks["nap"].s(), instance_id="nap", start_at=later)
    found = timeline_of(run.refresh())
    assert [(each.kind, [segment.kind for segment in each.segments]) for each in found.lanes] == [
        ("orchestration", ["queued"])
    ]


def test_one_that_is_not_there_is_told(app: Any) -> None:
    from celery_durable.handles.orchestration import Orchestration

    with pytest.raises(InstanceNotFound):
        timeline_of(Orchestration("nix", app=app))


def test_a_page_holds_everything_and_loads_nothing(app: Any) -> None:
    app.durable.start(app.tasks["approval"].s(-1), instance_id="<b>'x\"&")
    run = app.durable.get("<b>'x\"&")
    told = page(run)
    assert (told.count("<svg"), told.count("<table"), told.count("<pre>")) == (1, 1, 1)
    assert "card declined" in told
    assert "--dt-running" in told
    assert "<b>" not in told
    assert not re.search(r"<script|\bon\w+=|style=\"|src=|href=|url\(http", told)
    whole = json.loads(html.unescape(re.search(r"<pre>(.*)</pre>", told, re.DOTALL)[1]))  # type: ignore[index]
    assert (whole["id"], whole["status"], len(whole["history"])) == ("<b>'x\"&", "FAILED", 4)
    assert "input" not in whole
    assert '"args": [' in html.unescape(page(run, payloads=True))


def test_of_too_many_lanes_failed_and_live_ones_are_kept(app: Any) -> None:
    charge = app.tasks["charge"]

    @app.durable.orchestrator(name="many")
    async def many(ctx: Any) -> None:
        await ctx.map(charge, [1] * (MOST_LANES + 20))
        with contextlib.suppress(ValueError):
            await ctx.call(charge.s(-1))
        await ctx.wait_event("go")

    found = start(app, "many")
    assert (len(found.lanes), found.hidden) == (MOST_LANES, 23)
    assert [lane.kind for lane in found.lanes[:2]] == ["orchestration", "activity"]
    assert {lane.outcome for lane in found.lanes[-2:]} == {"failed", "live"}
    assert "and 23 more" in svg(found)


def test_one_that_continues_as_new_begins_with_its_present_execution(app: Any) -> None:
    @app.durable.orchestrator(name="loop")
    async def loop(ctx: Any, number: int = 0) -> None:
        await ctx.wait_event("go")
        ctx.continue_as_new(number + 1)

    before = start(app, "loop")
    app.durable.raise_event("loop", "go")
    run = app.durable.get("loop")
    wait_until(lambda: run.refresh().input["args"] == [1], what="the next execution")
    wait_until(lambda: run.history(), what="its first turn")
    after = timeline_of(run.refresh())
    assert after.begin > before.begin
    assert [(each.kind, each.outcome) for each in after.lanes] == [
        ("orchestration", "live"),
        ("event", "live"),
    ]


def test_an_entity_has_a_timeline_too(app: Any) -> None:
    class Visits:
        total: int = 0

        def add(self, n: int) -> None:
            self.total += n

    app.durable.entity(Visits)
    app.durable.entity(Visits, "a").signal.add(2)
    run = app.durable.get("@Visits@a")
    found = timeline_of(run)
    assert (found.status, found.lanes[0].outcome) == ("RUNNING", "live")
    assert "@Visits@a" in svg(found)
    assert current_waits(app.durable, [run]) == {"@Visits@a": "its next message"}
