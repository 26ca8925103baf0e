"""What goes in comes out, with the same value and type, or is refused where it goes in: any value,
through every door.
"""

from __future__ import annotations

import math
import uuid
from collections import namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.utils.json import dumps, loads

from celery_durable import PayloadError, RuntimeStatus, durable_context
from celery_durable.encoding import DEEPEST
from celery_durable.payload import PayloadCodec
from tests.tiers import rounds

MARKS = [
    "__type__",
    "__value__",
    "celery_durable.dict",
    "datetime",
    "uuid",
    "bytes",
    "hex",
    "!",
    "failure",
    "result",
    "1",
    "true",
]
words = st.sampled_from(MARKS) | st.text(max_size=5) | st.just("\ud800\x00")
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**40)
    | st.floats(allow_nan=False)
    | words
    | st.binary(max_size=4)
    | st.uuids()
    | st.decimals(allow_nan=False, places=2)
    | st.dates()
    | st.datetimes(timezones=st.just(UTC))
)


def typed(inner: Any) -> Any:
    """What looks like one of kombu's typed values."""
    value = st.sampled_from(["2030-01-02T00:00:00", {"hex": "x"}, 5]) | inner
    return st.fixed_dictionaries({"__type__": words | inner, "__value__": value})


values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words, inner, max_size=3)
        | typed(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(words | st.integers(0, 3) | st.booleans(), inner, max_size=3)
    ),
    max_leaves=6,
)
Pair = namedtuple("Pair", "a b")


class Twins(ValueError):
    """Two keys of a dict are one in JSON."""


def as_json_has_it(value: Any) -> Any:
    """The value as the documentation says that JSON gives it back: lists for tuples, text
    for keys.
    """
    if isinstance(value, (list, tuple)):
        return [as_json_has_it(each) for each in value]
    if isinstance(value, dict):
        found = {
            (loads(dumps({key: 0})).popitem()[0]): as_json_has_it(each)
            for key, each in value.items()
        }
        if len(found) < len(value):
            raise Twins
        return found
    return value


def is_same(one: Any, other: Any) -> bool:
    """Equal, and of the same type throughout."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


ODD: dict[str, Any] = {
    "uuid": {"__type__": "uuid", "__value__": "x"},
    "datetime": {"__type__": "datetime", "__value__": "2026-01-01T00:00:00"},
    "unknown": {"__type__": "no such type", "__value__": 1},
    "unhashable": {"__type__": [], "__value__": {}},
    "ours": {"__type__": "celery_durable.dict", "__value__": [["a", 1]]},
    "in itself": {
        "__type__": {"__type__": "uuid", "__value__": "x"},
        "__value__": {"__type__": "date", "__value__": 1},
    },
    "typed inside": {
        "__type__": "uuid",
        "__value__": [uuid.UUID(int=1), datetime(2030, 1, 1, tzinfo=UTC), b"\xff"],
    },
    "other order": {"__value__": 1, "__type__": "uuid"},
    "three keys": {"__type__": "uuid", "__value__": 1, "more": 2},
    "failure": {"failure": '{"type": "x"}'},
    "infinite": [math.inf, -math.inf],
    "pair": Pair(1, Pair(2, 3)),
    "keys": {1: "a", None: "b", 2.5: "c", True and "t": "d"},
    "money": {"sum": Decimal("1.10"), "on": date(2030, 1, 1)},
}
REFUSED: dict[str, Any] = {
    "one and one": {1: "a", "1": "b"},
    "true": [{True: 1, "true": 2}],
    "null": {"x": {None: 1, "null": 2}},
    "class": [dict],
    "object": [object()],
    "half": {1.5: 1, "1.5": 2},
}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# -- through every door ----------------------------------------------------------------------------


class House:
    """An application whose one orchestrator takes a value through every door."""

    def __init__(self, app: Any) -> None:
        self.app, self.durable = app, app.durable
        self.given: Any = None
        self.found: dict[str, Any] = {}
        self._numbers = count()
        self._declare()

    def _declare(self) -> None:
        app, durable, found = self.app, self.durable, self.found

        class Holding(Exception):
            pass

        Holding.__module__, Holding.__qualname__ = __name__, "Holding"
        globals()["Holding"] = Holding

        @app.task(name="gives")
        def gives(_: Any = None) -> Any:
            return self.given

        @app.task(name="takes")
        def takes(value: Any, **more: Any) -> None:
            found["argument"] = value

        @app.task(name="fails")
        def fails() -> None:
            error = Holding(self.given)
            error.value = self.given  # type: ignore[attr-defined]
            raise error

        @app.task(name="beats")
        def beats() -> None:
            context = durable_context()
            assert context is not None
            context.heartbeat(self.given)
            start = durable.runtime.store.attempts.begin(context._ticket, None)
            found["heartbeat"] = durable.runtime.codec.decode(start.details or "null")

        @durable.entity
        class Box:
            value: Any = None

            def put(self, value: Any) -> Any:
                found["operation"] = value
                self.value = value
                return value

        @durable.orchestrator(name="inner")
        async def inner(ctx: Any, value: Any) -> Any:
            found["child"] = value
            return value

        @durable.orchestrator(name="visit")
        async def visit(ctx: Any, value: Any, again: Any = None) -> Any:
            if again is not None:
                found["continued"] = value
                return value
            found["start"] = value
            found["result"] = await ctx.call(gives.s())
            await ctx.call(takes.s(self.given))
            try:
                await ctx.call(fails.s())
            except Holding as error:
                found["failure"], found["failure's argument"] = error.value, error.args[0]  # type: ignore[attr-defined]
            await ctx.call(beats.s())
            found["child's result"] = await ctx.call(inner.s(self.given))
            found["run"] = await ctx.run(lambda: self.given)
            found["reply"] = await ctx.entity(Box, "b").put(self.given)
            ctx.signal_event(ctx.instance_id, "echo", self.given)
            found["signal"] = await ctx.wait_event("echo")
            ctx.set_status(self.given)
            found["event"] = await ctx.wait_event("go")
            found["override"] = await ctx.call(app.signature("elsewhere"))
            ctx.continue_as_new(self.given, again=True)

    def visit(self, value: Any) -> dict[str, Any]:
        """Take a value through all doors, and return what came out of each."""
        self.given = value
        self.found.clear()
        durable, id_ = self.durable, f"i{next(self._numbers)}"
        run = durable.start(self.app.tasks["visit"].s(value), instance_id=id_)
        self.found["status"] = run.refresh().custom_status
        self.found["input"] = run.input["args"][0]
        self.found["state"] = durable.entity("Box", "b").state()["value"]
        run.raise_event("go", value)
        (call,) = [event.command for event in run.history() if event.name == "elsewhere"]
        run.override(call, value)
        durable.runtime.runner.run(id_)
        run.refresh()
        assert run.runtime_status is RuntimeStatus.COMPLETED, (run.reason, run.failure)
        self.found["output"] = run.output
        ended = durable.start(self.app.tasks["visit"].s(value), instance_id=f"{id_}-ended")
        ended.terminate(output=value)
        self.found["termination"] = ended.refresh().output
        return self.found


@pytest.fixture
def house(new_app: Callable[..., Any]) -> House:
    return House(new_app(task_always_eager=True, durable_exception_modules=("tests",)))


DOORS = {
    "start",
    "result",
    "argument",
    "failure",
    "failure's argument",
    "heartbeat",
    "child",
    "child's result",
    "run",
    "operation",
    "reply",
    "state",
    "signal",
    "status",
    "event",
    "override",
    "continued",
    "output",
    "input",
    "termination",
}


def check(house: House, value: Any) -> None:
    try:
        expected = as_json_has_it(value)
    except Twins:
        with pytest.raises(PayloadError, match="are the same in JSON"):
            house.durable.start(house.app.tasks["visit"].s(value))
        return
    found = house.visit(value)
    assert set(found) == DOORS
    for door, came in found.items():
        assert is_same(came, expected), (door, value, came)


@pytest.mark.sparse(2)
@pytest.mark.parametrize("name", ODD)
def test_odd_values_come_out_of_every_door_as_they_went_in(house: House, name: str) -> None:
    check(house, ODD[name])


def test_any_value_comes_out_of_every_door_as_it_went_in(house: House) -> None:
    for examples in rounds(quick=10, full=20):

        @settings(suppress_health_check=list(HealthCheck), max_examples=examples)
        @given(values)
        def visit(value: Any) -> None:
            check(house, value)

        visit()


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_out_is_refused_by_every_door(house: House, name: str) -> None:
    value, durable = REFUSED[name], house.durable
    refused: set[str] = set()  # a replay comes by again

    @durable.entity(name="Bin")
    class Bin:
        def fill(self) -> None:
            self.value = value

        def give(self) -> Any:
            return value

    @durable.orchestrator(name="tries")
    async def tries(ctx: Any) -> Any:
        house.given = value
        doors: dict[str, Callable[[], Any]] = {
            "result": lambda: ctx.call(house.app.tasks["gives"].s()),
            "argument": lambda: ctx.call(house.app.tasks["takes"].s(value)),
            "heartbeat": lambda: ctx.call(house.app.tasks["beats"].s()),
            "child": lambda: ctx.call(house.app.tasks["inner"].s(value)),
            "run": lambda: ctx.run(lambda: value),
            "state": lambda: ctx.entity(Bin, "b").fill(),
            "reply": lambda: ctx.entity(Bin, "b").give(),
            "operation": lambda: ctx.entity("Box", "b").put(value),
            "signal": lambda: ctx.signal_event("other", "echo", value),
        }
        for door, enter in doors.items():
            try:
                await enter()
            except PayloadError:
                refused.add(door)
        try:
            ctx.set_status(value)
        except PayloadError:
            refused.add("status")
        return value

    run = durable.start(tries.s(), instance_id="t").refresh()
    assert len(refused) == 10, refused
    assert run.runtime_status is RuntimeStatus.FAILED and isinstance(run.failure, PayloadError)
    assert durable.get("@Bin@b").runtime_status is RuntimeStatus.RUNNING
    house.given = 1
    waiting = durable.start(house.app.tasks["visit"].s(1), instance_id="w")
    for verb in (lambda: waiting.raise_event("go", value), lambda: waiting.terminate(output=value)):
        with pytest.raises(PayloadError):
            verb()
    assert waiting.refresh().runtime_status is RuntimeStatus.RUNNING


# -- by itself -------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(values)
def test_what_is_encoded_is_decoded_alike_or_refused(value: Any) -> None:
    codec = PayloadCodec()
    try:
        expected = as_json_has_it(value)
    except Twins:
        with pytest.raises(PayloadError):
            codec.encode(value)
    else:
        assert is_same(codec.decode(codec.encode(value)), expected)


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
@settings(max_examples=60)
@given(values)
def test_of_any_serializer_what_is_accepted_is_readable(serializer: str, value: Any) -> None:
    codec = PayloadCodec(serializer, [serializer])
    try:
        payload = codec.encode(value)
    except PayloadError:
        return
    codec.decode(payload)


class Unpickled:
    """Encoded without trouble, and never decoded."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_what_pickles_and_does_not_unpickle_is_refused() -> None:
    with pytest.raises(PayloadError, match="cannot decode again: DecodeError"):
        PayloadCodec("pickle").encode([Unpickled()])


def test_nesting_is_refused_long_before_a_process_cannot_read_it() -> None:
    codec = PayloadCodec()
    assert codec.decode(codec.encode(nested(DEEPEST))) == nested(DEEPEST)
    with pytest.raises(PayloadError, match="nested too deeply"):
        codec.encode(nested(DEEPEST + 1))
    whole = codec.encode({"put around": nested(DEEPEST)}, is_checked=True)
    assert codec.decode(whole) == {"put around": nested(DEEPEST)}
    wide = [[{"a": [1]}] for _ in range(1_000)]
    assert codec.decode(codec.encode(wide)) == wide


def test_a_refusal_says_what_to_do() -> None:
    for value in REFUSED.values():
        with pytest.raises(PayloadError, match="durable_serializer='pickle'"):
            PayloadCodec().encode(value)


def test_arguments_travel_to_a_worker_as_they_are(new_app: Callable[..., Any]) -> None:
    """Celery's own JSON would make a date of such a dict, or refuse the whole message."""
    app = new_app()
    durable = app.durable

    @app.task(name="takes")
    def takes(*args: Any, **kwargs: Any) -> None: ...

    odd = ODD["datetime"]

    @durable.orchestrator(name="asks")
    async def asks(ctx: Any) -> None:
        await ctx.call(takes.s(odd, [ODD["uuid"]], more=ODD["unknown"]))

    durable.start(asks.s(), instance_id="i")
    durable.runtime.runner.run("i")
    with (
        app.connection_for_read() as connection,
        connection.SimpleQueue(app.conf.task_default_queue) as queue,
    ):
        bodies = []
        while len(bodies) < 2:
            message = queue.get(block=True, timeout=5)
            message.ack()
            if message.headers["task"] == "takes":
                bodies.append(message.payload)
                break
    (args, kwargs, _), *_ = bodies
    assert (args, kwargs) == ([odd, [ODD["uuid"]]], {"more": ODD["unknown"]})
