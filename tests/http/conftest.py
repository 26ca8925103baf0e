"""A shop with an orchestration in each status, and clients that may do everything, something, or
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_durable.http import VERBS, BearerTokens, Token, application
from tests.conftest import wait_until

from .client import Client

ALL, BLIND, READER = "all-powerful-token", "without-payloads-token", "a-reader-only-token"
TOKENS = BearerTokens(
    Token(ALL, VERBS), Token(BLIND, set(VERBS) - {"view_payload"}), Token(READER, ["view"])
)


class Shop:
    """One application, whose activities run at once, and what is steered over HTTP."""

    def __init__(self, app: Any) -> None:
        self.app, self.durable = app, app.durable
        self.is_broken = True
        durable = app.durable

        @app.task(name="http.charge")
        def charge(what: Any) -> str:
            if self.is_broken and what == "bad":
                raise KeyError("no such card")
            return f"charged {what}"

        @durable.orchestrator(name="http.sale")
        async def sale(ctx: Any, order: Any = None) -> Any:
            ctx.set_status({"done": 1, "of": 2})
            receipt = await ctx.call(charge.s(order if isinstance(order, str) else "order"))
            if order == "wait":
                return [receipt, await ctx.wait_event("approved")]
            return [receipt, order]

        @durable.orchestrator(name="http.clerk")
        async def clerk(ctx: Any) -> Any:
            ctx.state.moves = 0
            while True:
                request = await ctx.wait_request("move")
                if request.data == "nowhere":
                    request.reject("there is no such place")
                elif request.data == "stop":
                    return ctx.state.moves
                else:
                    ctx.state.moves += 1
                    request.reply({"to": request.data, "nan": float("nan")})

        @clerk.query
        def moves(state: Any) -> Any:
            return state.moves

        @clerk.query
        def fails(state: Any) -> Any:
            return state.nothing

        @durable.orchestrator(name="http.strict")
        async def strict(ctx: Any, a: int, b: int) -> int:
            return a + b

        @durable.orchestrator(name="http.returns")
        async def returns(ctx: Any) -> Any:
            return {"nan": float("nan"), "text": "\u00fc", "list": [1, float("inf")]}

        @durable.orchestrator(name="http.again")
        async def again(ctx: Any, round: int = 1) -> Any:
            answer = await ctx.wait_event("approved")
            if answer == "next":
                ctx.continue_as_new(round + 1)
            return [round, answer]

        @durable.entity(name="Visits")
        class Visits:
            value: int = 0

            def add(self, n: int = 1) -> None:
                self.value += n

    def start(self, order: Any = None, id_: str | None = None, name: str = "http.sale") -> Any:
        args = () if order is None else (order,)
        return self.durable.start(self.app.signature(name, args=args), instance_id=id_)

    def one_of_each(self) -> dict[str, Any]:
        """Return an orchestration in each status, by the host's word for it."""
        far = datetime(2999, 1, 1, tzinfo=UTC)
        runs = {
            "Completed": self.start("done", "completed"),
            "Failed": self.start("bad", "failed"),
            "Running": self.start("wait", "running"),
            "Suspended": self.start("wait", "suspended"),
            "Terminated": self.start("wait", "terminated"),
            "Canceled": self.start("wait", "canceled"),
            "Pending": self.durable.start(
                self.app.signature("http.sale"), instance_id="pending", start_at=far
            ),
        }
        runs["Suspended"].suspend("the bank is down")
        runs["Terminated"].terminate(reason="enough")
        runs["Canceled"].cancel("not wanted")
        for word, run in runs.items():
            wait_until(
                lambda run=run, word=word: run.refresh().runtime_status == word.upper(), 300, word
            )
        return runs


@pytest.fixture
def shop(new_app: Callable[..., Any]) -> Shop:
    return Shop(
        new_app(task_always_eager=True, task_ignore_result=True, durable_payload_limit=100_000)
    )


@pytest.fixture
def wsgi(shop: Shop) -> Any:
    return application(shop.durable, TOKENS, prefix="/durable")


@pytest.fixture
def client(wsgi: Any) -> Client:
    """A client that may do everything."""
    return Client(wsgi, ALL)


@pytest.fixture(params=[True, False], ids=["raw path", "decoded path"])
def any_server(request: pytest.FixtureRequest, wsgi: Any) -> Iterator[Client]:
    """A client of each kind of server."""
    return Client(wsgi, ALL, tells_raw_path=request.param)
