"""Names, ids, reasons and tags that nothing could be found by are refused wherever one is given, and
nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from celery_durable import ConfigurationError, Durable, Orchestration
from celery_durable.core.names import LONGEST_EVENT
from celery_durable.testing import DurableEnv, durable_environment

app = Celery("wrong_texts", broker="memory://", set_as_current=False)
durable = Durable(app)


@durable.orchestrator(name="texts.waits")
async def waits(ctx: Any) -> Any:
    return await ctx.wait_event("go")


@app.task(name="texts.task")
def task() -> None: ...


@durable.entity(name="texts.counter")
class Counter:
    count: int = 0

    def add(self) -> None: ...


@pytest.fixture(scope="module")
def env() -> Iterator[DurableEnv]:
    with durable_environment(durable) as environment:
        yield environment


@pytest.fixture(scope="module")
def run(env: DurableEnv) -> Orchestration[Any]:
    return env.start(waits.s(), instance_id="waiting")


Take = Callable[[Orchestration[Any], Any], Any]
#: By what is given, who takes it.
NAMES: dict[str, Take] = {
    "raise_event": lambda run, text: run.raise_event(text),
    "durable.raise_event": lambda _, text: durable.raise_event("waiting", text),
    "raise_event_many": lambda _, text: durable.raise_event_many(text, status="RUNNING"),
    "event_id": lambda run, text: run.raise_event("go", event_id=text),
    "durable.event_id": lambda _, text: durable.raise_event("waiting", "go", event_id=text),
    "event_id of many": lambda _, text: durable.raise_event_many(
        "go", event_id=text, status="RUNNING"
    ),
    "ask": lambda run, text: run.ask(text, timeout=0),
    "request_id": lambda run, text: run.ask("go", timeout=0, request_id=text),
    "start": lambda _, text: durable.start(waits.s(), instance_id=text),
    "start of a task": lambda _, text: durable.start(task.s(), instance_id=text),
    "start_many": lambda _, text: durable.start_many([waits.s()], instance_ids=[text]),
    "get": lambda _, text: durable.get(text),
    "event to": lambda _, text: durable.raise_event(text, "go"),
    "schedule": lambda _, text: durable.schedule(text, waits.s(), interval=60),
    "get_schedule": lambda _, text: durable.get_schedule(text),
    "entity key": lambda _, text: durable.entity(Counter, text).signal.add(),
    "entity name": lambda _, text: durable.entity(text, "key").signal.add(),
    "restart": lambda run, text: run.restart(new_id=text),
    "fork": lambda run, text: run.fork(1, new_id=text),
    "pause of a task": lambda _, text: durable.pause(task=text),
    "pause of a queue": lambda _, text: durable.pause(queue=text),
    "pause of an orchestrator": lambda _, text: durable.pause(orchestrator=text),
    "queue": lambda _, text: durable.start(waits.s().set(queue=text)),
    "queue of a task": lambda _, text: durable.start(task.s().set(queue=text)),
}
#: What may be empty; it has no length of its own.
TEXTS: dict[str, Take] = {
    "tag": lambda _, text: durable.start(waits.s(), tags={text: "x"}),
    "set_tags": lambda run, text: run.set_tags({text: "x"}),
    "find by tag": lambda _, text: durable.find(tags={text: "x"}),
    "value of a tag": lambda _, text: durable.start(waits.s(), tags={"customer": text}),
    "removed tag": lambda run, text: run.set_tags(remove=[text]),
    **{
        f"reason of {verb}": (
            lambda run, text, verb=verb: getattr(run, verb)(reason=text)  # type: ignore[misc]
        )
        for verb in ("suspend", "resume", "cancel", "terminate", "rewind")
    },
    "reason of fork": lambda run, text: run.fork(1, reason=text),
    "reason of override": lambda run, text: run.override(1, reason=text),
    "reason for many": lambda _, text: durable.suspend(status="FAILED", reason=text),
    "reason of a pause": lambda _, text: durable.pause(queue="texts", reason=text),
    "reason of a schedule": lambda _, text: durable.schedule("texts", waits.s(), interval=60).pause(
        reason=text
    ),
    "actor": lambda _, text: durable.actor(text).__enter__(),
}
#: What is a name of a tag, and no other name.
TAGS = ("", "a\0b", "\0", "x" * (LONGEST_EVENT + 1))
#: What is kept with NUL, too: by its digest, or as JSON.
KEEPS_NUL = ("event_id", "request_id", "tag", "actor")
NO_TEXT = [5, 0, True, b"bytes", ["list"]]
BROKEN = ["a\0b", "\0", "half\ud800"]
#: What the key of a mapping is given to.
_KEYS = {"tag": None, "set_tags": None, "find by tag": None}


@pytest.fixture
def written(env: DurableEnv, run: Orchestration[Any]) -> Iterator[None]:
    """Nothing has come of it."""

    def now() -> Any:
        history = [event.kind for event in run.history()]
        return durable.count(), len(durable.pauses()), history, run.refresh().runtime_status

    durable.schedule("texts", waits.s(), interval=60)
    before = now()
    yield
    assert now() == before
    env.run_until_idle()
    assert now() == before


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    "value", ["", *BROKEN, "x" * (LONGEST_EVENT + 1)], ids=lambda v: repr(v[:8])
)
@pytest.mark.parametrize("who", NAMES)
def test_a_name_has_characters_that_can_be_stored(
    run: Orchestration[Any], who: str, value: str
) -> None:
    if "\0" in value and any(kept in who for kept in KEEPS_NUL):
        return
    with pytest.raises((ValueError, ConfigurationError)) as problem:
        NAMES[who](run, value)
    assert len(str(problem.value)) < 300  # what is too long is not repeated


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("value", NO_TEXT, ids=repr)
@pytest.mark.parametrize("who", [*NAMES, *TEXTS])
def test_what_is_no_text_is_none(run: Orchestration[Any], who: str, value: Any) -> None:
    if who in _KEYS and isinstance(value, list):
        value = 7  # a list is no key of a mapping
    with pytest.raises(TypeError):
        {**NAMES, **TEXTS}[who](run, value)


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("value", BROKEN, ids=repr)
@pytest.mark.parametrize("who", [who for who in TEXTS if not who.startswith("reason")])
def test_a_text_can_be_stored(run: Orchestration[Any], who: str, value: str) -> None:
    if "\0" in value and any(kept in who for kept in KEEPS_NUL):
        return
    with pytest.raises(ValueError):
        TEXTS[who](run, value)


@pytest.mark.parametrize("value", ["", *BROKEN], ids=repr)
def test_no_verb_fails_by_its_reason(env: DurableEnv, value: str) -> None:
    """It may be the text of an error, whatever that holds."""
    run = env.start(waits.s())
    run.suspend(reason=value)
    assert run.refresh().runtime_status == "SUSPENDED"
    run.resume(reason=value)
    durable.pause(queue="reasons", reason=value)
    assert durable.unpause(queue="reasons")
    schedule = durable.schedule("reasons", waits.s(), interval=60)
    assert schedule.pause(reason=value).is_paused
    schedule.delete()
    run.terminate(reason=value)
    assert run.refresh().runtime_status == "TERMINATED"


#: In an orchestrator.
IN_TURNS: dict[str, Callable[[Any, Any], Any]] = {
    "wait_event": lambda ctx, text: ctx.wait_event(text),
    "wait_request": lambda ctx, text: ctx.wait_request(text),
    "signal_event": lambda ctx, text: ctx.signal_event("other", text),
    "receiver": lambda ctx, text: ctx.signal_event(text, "go"),
    "patched": lambda ctx, text: ctx.patched(text),
    "deprecate_patch": lambda ctx, text: ctx.deprecate_patch(text),
    "entity": lambda ctx, text: ctx.entity("texts.counter", text),
    "queue": lambda ctx, text: ctx.call(task.s().set(queue=text)),
    "queue of a child": lambda ctx, text: ctx.call(waits.s().set(queue=text)),
    "id of a child": lambda ctx, text: ctx.call(waits.s().set(task_id=text)),
    "tag": lambda ctx, text: ctx.set_tags({text: "x"}),
}
_asked: list[Exception] = []
_ask: list[tuple[str, Any]] = []


@durable.orchestrator(name="texts.asks")
async def asks(ctx: Any) -> None:
    who, text = _ask[-1]
    try:
        IN_TURNS[who](ctx, text)
    except Exception as error:
        _asked.append(error)


@pytest.mark.parametrize("who", IN_TURNS)
def test_a_context_takes_none_of_these(env: DurableEnv, who: str) -> None:
    for value in ("", *BROKEN, "x" * (LONGEST_EVENT + 1), *NO_TEXT):
        if who == "tag" and (isinstance(value, list) or value in TAGS):
            continue
        if who == "id of a child" and isinstance(value, int):
            continue  # histories have some: a key of a database
        _asked.clear()
        _ask[:] = [(who, value)]
        env.start(asks.s()).get(timeout=3)
        assert _asked, f"{who} took {str(value)[:20]!r}"
        expected = ValueError if isinstance(value, str) else TypeError
        assert isinstance(_asked[0], expected), (value, _asked[0])


@pytest.mark.parametrize("queue", [5, "", "a\0b", "x" * 201])
def test_a_queue_of_a_declaration_is_a_name(queue: Any) -> None:
    async def other(ctx: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="the name of a queue"):
        durable.orchestrator(name="texts.other", queue=queue)(other)
    with pytest.raises(ConfigurationError, match="the name of a queue"):
        durable.entity(name="texts.others", queue=queue)(type("Others", (), {}))
