"""With ``task_always_eager`` limits, pauses, maps and versions work as with workers: only time does
not pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import Limit, Rate, RuntimeStatus, durable_context


class Play:
    """An application that notes what has run."""

    def __init__(self, app: Any) -> None:
        self.app, self.durable = app, app.durable
        self.ran: list[Any] = []
        self.tokens: list[str] = []

        @app.task(name="play.work", shared=False, durable_limit=2)
        def work(what: Any) -> Any:
            self.ran.append(what)
            return what

        @app.task(name="play.rated", shared=False, durable_limit=Rate(2, per=60))
        def rated(what: Any) -> Any:
            return work.run(what)

        @app.task(name="play.hold", shared=False, durable_limit=Limit(1))
        def hold(what: Any) -> None:
            self.ran.append(what)
            self.tokens.append(durable_context().defer())

        @app.task(name="play.odd_fail", shared=False)
        def odd_fail(number: int) -> int:
            if number % 2:
                raise ValueError(number)
            return number

        @self.durable.orchestrator(name="play.fan")
        async def fan(ctx: Any, name: str, items: list[Any], **options: Any) -> list[str]:
            return [repr(each) for each in await ctx.map(app.signature(name), items, **options)]

        @self.durable.orchestrator(name="play.versions", version="1", upgrade=True)
        async def first(ctx: Any, cycle: int = 0) -> Any:
            if not cycle:
                ctx.continue_as_new(1)
            return ctx.version

        @self.durable.orchestrator(name="play.versions", version="2")
        async def second(ctx: Any, cycle: int = 0) -> Any:
            return ctx.version

        self.fan, self.versions = fan, second

    def start(self, name: str, *items: Any, **options: Any) -> Any:
        return self.durable.start(self.fan.s(name, list(items), **options))


@pytest.fixture
def play(new_app: Callable[..., Any]) -> Play:
    return Play(new_app(task_always_eager=True))


def test_limits_hold_and_let_in(play: Play) -> None:
    assert play.start("play.work", *range(5), concurrency=3).get(timeout=5) == list("01234")
    assert play.durable.limits() == []
    play.start("play.rated", 1, 2).get(timeout=5)
    late = play.start("play.rated", 3)
    assert late.refresh().runtime_status is RuntimeStatus.RUNNING and play.ran[-1] == 2
    assert "2 of 2 sends in 0:01:00 of 'play.rated' are taken" in str(late.explain())


def test_whatever_ends_an_attempt_lets_in_the_next(play: Play) -> None:
    runs = [play.start("play.hold", number) for number in range(4)]
    assert play.ran == [0]
    runs[0].cancel()
    assert play.ran == [0, 1]
    play.durable.complete(play.tokens[1], "done")
    assert play.ran == [0, 1, 2]
    runs[2].terminate()
    assert play.ran == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "target", [{"task": "play.*"}, {"orchestrator": "play.fan"}, {"queue": "celery"}], ids=str
)
def test_unpause_lets_go_at_once_and_in_order(play: Play, target: dict[str, str]) -> None:
    play.durable.pause(**target)
    runs = [play.start("play.work", *"ab"), play.start("play.work", *"cd")]
    assert play.ran == [] and play.durable.pauses()[0].held in (2, 4)
    assert play.durable.unpause(**target) and play.durable.pauses() == []
    assert [run.get(timeout=5) for run in runs] == [["'a'", "'b'"], ["'c'", "'d'"]]
    assert play.ran == list("abcd")


def test_delay_waits_for_the_end_of_a_pause(play: Play) -> None:
    play.durable.pause(orchestrator="play.*")
    result = play.fan.delay("play.work", ["a"])
    assert play.ran == []
    play.durable.unpause(orchestrator="play.*")
    assert result.get(timeout=5) == ["'a'"]


def test_a_map_stops_when_it_has_enough(play: Play) -> None:
    options = {"stop_when": 2, "tolerate": "all", "concurrency": 1}
    found = play.start("play.odd_fail", *range(5), **options).get(timeout=5)
    assert found == ["0", "ValueError(1)", "2", "SKIPPED", "SKIPPED"]


def test_versions_and_ramps(play: Play) -> None:
    durable, flow = play.durable, play.versions
    assert durable.start(flow.s()).get(timeout=5) == "2"
    assert durable.start(flow.s(), version="1").get(timeout=5) == "2"
    durable.ramp("play.versions", "1")
    assert [durable.start(flow.s()).get(timeout=5), flow.delay().get(timeout=5)] == ["1", "1"]
