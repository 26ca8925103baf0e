"""Whatever code raises is an outcome: a table of exceptions, through every place where code can
raise one.
"""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.exceptions import WorkerShutdown

from celery_durable import ActivityError, RuntimeStatus
from celery_durable.core.endings import is_own
from celery_durable.payload import LARGEST_FAILURE, LONGEST_TEXT, PayloadCodec

CODEC = PayloadCodec(exception_modules=lambda: ["tests"])


class Declined(Exception):
    def __init__(self, code: str, *, amount: int) -> None:
        super().__init__(f"declined with {code}")
        self.code, self.amount = code, amount


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Holding(Exception):
    """One whose argument no serializer takes."""


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Sly(Exception):
    args = property(lambda self: 1 / 0)  # type: ignore[assignment]


class Several(ExceptionGroup[Exception]):
    def derive(self, excs: Any) -> Several:
        return Several(self.message, excs)


class Done(StopIteration):
    pass


class Out(BaseException):
    pass


def caused() -> Exception:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        return error


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "UnicodeDecodeError": ("utf-8", b"\xff", 0, 1, "bad"),
    "UnicodeEncodeError": ("utf-8", "\ud800", 0, 1, "bad"),
    "UnicodeTranslateError": ("x", 0, 1, "bad"),
    "ExceptionGroup": ("several", [ValueError("v")]),
    "BaseExceptionGroup": ("several", [KeyboardInterrupt()]),
}
OUTSIDE = (KeyboardInterrupt,)
BUILTIN = sorted(
    {
        each.__name__: each
        for each in vars(builtins).values()
        if isinstance(each, type) and issubclass(each, BaseException)
    }.items()
)
MAKERS: dict[str, Callable[[], BaseException]] = {
    **{
        name: lambda cls=cls: cls(*ARGUMENTS.get(cls.__name__, ("text",)))
        for name, cls in BUILTIN
        if cls not in OUTSIDE
    },
    "CancelledError": lambda: asyncio.CancelledError("own"),
    "caused": caused,
    "Declined": lambda: Declined("no", amount=3),
    "Frozen": lambda: Frozen(3),
    "Holding": lambda: Holding(object(), threading.Lock()),
    "Mute": lambda: Mute("x"),
    "Sly": lambda: Sly("x"),
    "Done": lambda: Done(1),
    "Out": lambda: Out("x"),
    "nested": lambda: ExceptionGroup(
        "a", [ExceptionGroup("b", [KeyError("k"), StopIteration()]), ValueError("v")]
    ),
    "Several": lambda: Several("s", [ValueError("v")]),
    "long": lambda: ValueError("x" * 1_000_000),
    "surrogate": lambda: FileNotFoundError(2, "no", "caf\udce9"),
    "local": lambda: type("Local", (Exception,), {})("x"),
}
#: Of these only the name and the text can arrive: what is no ``Exception``, what no coroutine
#: raises, what has no name to import.
STAND_INS = {
    "BaseException",
    "BaseExceptionGroup",
    "CancelledError",
    "GeneratorExit",
    "SystemExit",
    "StopIteration",
    "Done",
    "Out",
    "local",
}


def thrown(make: Callable[[], BaseException]) -> None:
    raise make()


@pytest.fixture
def seen(new_app: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """How each exception of the table arrived from each place.

    All of them in one orchestration for each place.
    """
    app = new_app(task_always_eager=True, durable_exception_modules=("tests",))
    durable = app.durable
    found: dict[str, Any] = {}

    @app.task(name="raises")
    def raises(name: str) -> None:
        thrown(MAKERS[name])

    @durable.orchestrator(name="child")
    async def child(ctx: Any, name: str) -> None:
        thrown(MAKERS[name])

    @durable.entity
    class Box:
        def take(self, name: str) -> None:
            thrown(MAKERS[name])

    @durable.orchestrator(name="all")
    async def all_of(ctx: Any, place: str) -> int:
        for name in MAKERS:
            try:
                await PLACES[place](ctx, name)
            except BaseException as error:
                found[place, name] = error
                if type(error).__module__.startswith("celery_durable.core"):
                    raise
        return len(found)

    places: dict[str, Callable[[Any, str], Any]] = {
        "activity": lambda ctx, name: ctx.call(raises.s(name)),
        "child": lambda ctx, name: ctx.call(child.s(name)),
        "run": lambda ctx, name: ctx.run(thrown, MAKERS[name]),
        "operation": lambda ctx, name: ctx.entity(Box, "b").take(name),
        "override": lambda ctx, name: ctx.call(app.signature("elsewhere", args=(name,))),
    }
    PLACES.update(places)
    yield {"app": app, "durable": durable, "found": found}


PLACES: dict[str, Callable[[Any, str], Any]] = {}


def check_arrival(name: str, error: BaseException, *, by_coroutine: bool = False) -> None:
    """An exception arrived as itself where that can be, and else as one that tells of it."""
    original = MAKERS[name]()
    if by_coroutine and isinstance(original, StopIteration):
        assert type(error) is RuntimeError, "so Python has it"
    elif name in STAND_INS:
        assert type(error) is ActivityError and error.type.endswith(type(original).__qualname__), (
            name,
            error,
        )
    else:
        assert type(error) is type(original), (name, error)
    if isinstance(original, BaseExceptionGroup) and name not in STAND_INS:
        expected, found = leaves(original), leaves(error)
        assert [
            each if each is not StopIteration else ActivityError for each in expected
        ] == found, name
    if original.__cause__ is not None:
        assert (
            type(error.__cause__) is type(original.__cause__)
            and error.__cause__.args == original.__cause__.args
        )


def leaves(error: BaseException) -> list[type]:
    members = getattr(error, "exceptions", None)
    return [type(error)] if members is None else [leaf for each in members for leaf in leaves(each)]


@pytest.mark.parametrize("place", ["activity", "child", "run", "operation", "override"])
def test_every_exception_arrives_from_everywhere(seen: dict[str, Any], place: str) -> None:
    durable, found = seen["durable"], seen["found"]
    run = durable.start(seen["app"].tasks["all"].s(place), instance_id="i")
    if place == "override":
        for name in MAKERS:
            (call,) = [
                event.command for event in run.history() if event.kind == "ActivityScheduled"
            ][-1:]
            run.override(call, error=MAKERS[name]())
            durable.runtime.runner.run("i")
    run.refresh()
    assert run.runtime_status is RuntimeStatus.COMPLETED, (
        run.runtime_status,
        run.reason,
        run.failure,
    )
    assert {name for _, name in found} == set(MAKERS)
    for (_, name), error in found.items():
        check_arrival(name, error, by_coroutine=place == "child")
    assert durable.replay(all_of_text(run)) > 0


def all_of_text(run: Any) -> str:
    return str(run.export_history())


@pytest.mark.sparse(4)  # each comes as the failure of a child above
@pytest.mark.parametrize("name", MAKERS)
def test_whatever_an_orchestrator_raises_is_its_failure(seen: dict[str, Any], name: str) -> None:
    run = seen["durable"].start(seen["app"].tasks["child"].s(name), instance_id="i").refresh()
    assert run.runtime_status is RuntimeStatus.FAILED, (run.runtime_status, run.reason)
    check_arrival(name, run.failure, by_coroutine=True)
    assert type(run.get(propagate=False)) is type(run.failure)
    assert run.reason.startswith(type(run.failure).__name__) or name in STAND_INS
    assert len(run.reason) <= LONGEST_TEXT + 100
    assert run.explain().status is RuntimeStatus.FAILED


# -- what is kept of one ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_failure_is_kept_whatever_it_is(name: str, serializer: str) -> None:
    codec = PayloadCodec(serializer, exception_modules=lambda: ["tests"])
    error, rebuilt = codec.decode_failure(codec.encode_failure(MAKERS[name]()))
    check_arrival(name, error)
    assert bool(rebuilt) is (name not in STAND_INS)
    if name not in ("Mute", "Holding"):  # one has no text, the other one that changes
        assert str(codec.decode_failure(codec.encode_failure(error))[0]) == str(error)


def deep(levels: int, make: Callable[[BaseException], BaseException]) -> BaseException:
    error: BaseException = ValueError("x" * 1000)
    for _ in range(levels):
        error = make(error)
    return error


def linked(cause: BaseException) -> BaseException:
    error = ValueError("y" * 1000)
    error.__cause__ = cause
    return error


def looped() -> BaseException:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__cause__ = other, error
    return error


HUGE = "\N{SNOWMAN}\"'" * 300_000
LARGE: dict[str, Callable[[], BaseException]] = {
    "message": lambda: ValueError(HUGE),
    "many arguments": lambda: ValueError(*["x" * 1000] * 10_000),
    "no text": lambda: ValueError({"deep": ["x" * 6_000_000]}),
    "attributes": lambda: Declined("x", amount=HUGE),  # type: ignore[arg-type]
    "members": lambda: ExceptionGroup(HUGE, [ValueError(HUGE) for _ in range(500)]),
    "groups in groups": lambda: deep(
        300, lambda error: ExceptionGroup("g", [error, KeyError("k")])
    ),  # type: ignore[list-item]
    "causes": lambda: deep(500, linked),
    "circle": looped,
    "itself": lambda: ExceptionGroup("twice", [ONE, ONE]),
}
ONE = ValueError("one")


@pytest.mark.parametrize("what", LARGE)
def test_a_failure_of_any_size_is_cut_and_says_what_it_was(what: str) -> None:
    try:
        raise LARGE[what]()
    except BaseException as raised:
        error = raised
    payload = CODEC.encode_failure(error)
    assert len(payload) <= LARGEST_FAILURE
    assert len(CODEC.describe_error(error)) <= LONGEST_TEXT + 100
    rebuilt, _ = CODEC.decode_failure(payload)
    # the text of the exceptions themselves would be long
    assert type(rebuilt).__name__ == type(error).__name__
    assert str(rebuilt)[:10] == str(error)[:10]


def test_a_group_is_rebuilt_again_as_it_was_told() -> None:
    payload = CODEC.encode_failure(MAKERS["nested"]())
    error, describe_error = CODEC.decode_failure(payload)
    assert describe_error == [[True, False], True]
    again, same = CODEC.decode_failure(payload, may_rebuild=[[False, False], True])
    assert same == [[False, False], True]
    assert leaves(again) == [ActivityError, ActivityError, ValueError]
    stand_in, nothing = CODEC.decode_failure(payload, may_rebuild=False)
    assert (type(stand_in), nothing) == (ActivityError, False)
    assert "KeyError: 'k'" in str(stand_in)


def test_a_cause_is_of_its_type_only_where_every_process_has_it() -> None:
    """Else a replay would depend on what its process happens to have imported."""
    error = ValueError("outer")
    error.__cause__ = Declined("no", amount=1)
    payload = CODEC.encode_failure(error)
    assert type(CODEC.decode_failure(payload)[0].__cause__) is Declined
    assert type(PayloadCodec().decode_failure(payload)[0].__cause__) is ActivityError


# -- who ended it ----------------------------------------------------------------------------------


def of_a_signal() -> BaseException:
    """What a process of the pool raises in whatever code runs when it is asked to end."""
    code: dict[str, Any] = {"__name__": "billiard.common"}
    exec("def _shutdown_cleanup(): raise SystemExit(-241)", code)  # noqa: S102
    try:
        code["_shutdown_cleanup"]()
    except SystemExit as error:
        return error
    raise AssertionError


def test_what_ends_a_process_is_nobodys_outcome() -> None:
    assert [is_own(each) for each in (of_a_signal(), WorkerShutdown(), KeyboardInterrupt())] == [
        False
    ] * 3
    assert [
        is_own(each) for each in (SystemExit(3), asyncio.CancelledError(), Out(), ValueError())
    ] == [True] * 4
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(is_own(KeyboardInterrupt())))
    thread.start()
    thread.join()
    assert found == [True]
    assert is_own(KeyboardInterrupt(), is_worker=True)
