"""Every decoder, fed with broken, truncated and hostile bytes, gives a value or the error that it
documents.

Nothing that is stored names code that runs: an exception is rebuilt only as an ``Exception``
subclass, without its ``__init__``, and no module is imported that is not of an allowed package.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kombu import Connection

from celery_durable.broker.transport import register
from celery_durable.core.history import Event, EventKind, dump_events, load_events
from celery_durable.core.ports import Codec
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.errors import ActivityError, ConfigurationError, DurableError, PayloadError
from celery_durable.payload import PayloadCodec
from celery_durable.store.inbox_reads import Found, inbox_row
from celery_durable.store.pages import read_cursor
from celery_durable.store.reads import _record
from celery_durable.store.schema import instances
from celery_durable.store.values import text_of
from tests.tiers import is_long

from .garbage import BOMBS, DANGEROUS, DEEP, FACTOR, as_cursor, events, failures, hostile, raised_by

fuzz = settings(
    max_examples=(150 if is_long() else 50) * FACTOR, suppress_health_check=list(HealthCheck)
)
CODEC: Codec = PayloadCodec(exception_modules=lambda: ["celery", "celery_durable"])
HISTORY = [
    dump_events(
        [
            Event(EventKind.EXECUTION_STARTED, 1, payload='[[1, "x"], {}]'),
            Event(EventKind.ACTIVITY_SCHEDULED, 1, 1, 1, "shop.charge", "[[1], {}]"),
            Event(EventKind.JOIN_FORMED, 1, 1, facts={"members": [1, 2]}),
        ]
    ),
    dump_events(
        [
            Event(
                EventKind.ACTIVITY_FAILED, 2, 1, 1, payload='{"type": "E"}', facts={"rebuilt": True}
            )
        ]
    ),
    dump_events([Event(EventKind.EVENT_RAISED, 3, name="é", payload='"x"', facts={"id": "i"})]),
]
PAYLOADS = [
    CODEC.encode([[1, "a", None, 1.5], {"k": b"\xff", "when": {"deep": [True]}}]),
    PayloadCodec("yaml", ["yaml"]).encode({"a": [1]}) if "yaml" in sys.modules else '{"a": [1]}',
    '{"__type__": "datetime", "__value__": "2030-01-02T00:00:00+00:00"}',
    '{"__type__": "uuid", "__value__": {"hex": "12345678123456781234567812345678", "version": 4}}',
    "!application/json;utf-8;WzEsIDJd",
]


def caught(error: Exception) -> str:
    try:
        raise error
    except Exception as raised:
        return CODEC.encode_failure(raised)


FAILURES = [
    caught(ValueError("a", 1)),
    caught(OSError(2, "no", "file")),
    caught(ActivityError("x", type="t", message="m")),
    caught(ExceptionGroup("g", [KeyError("k")])),
    caught(UnicodeDecodeError("utf-8", b"x", 0, 1, "r")),
]


# -- history ----------------------------------------


def check_history(data: bytes | str) -> None:
    try:
        found = load_events(data)
    except (ValueError, TypeError, KeyError, IndexError):
        return
    assert all(isinstance(event, Event) and isinstance(event.kind, EventKind) for event in found)


@fuzz
@given(hostile(HISTORY, events))
def test_a_history_row_gives_events_or_a_documented_error(data: bytes) -> None:
    check_history(data)
    check_history(text_of(data) or "")


# -- payloads ----------------------------------------


@fuzz
@given(hostile(PAYLOADS))
def test_a_payload_gives_a_value_or_a_payload_error(data: bytes) -> None:
    error = raised_by(lambda: CODEC.decode(text_of(data) or ""))
    assert error is None or type(error) is PayloadError, repr(error)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000], ids=len
)
def test_a_hundred_thousand_brackets_are_refused(text: str) -> None:
    assert type(raised_by(lambda: CODEC.decode(text))) is PayloadError
    assert type(raised_by(lambda: CODEC.decode_failure(text))) is PayloadError
    assert isinstance(raised_by(lambda: load_events(text)), ValueError)


@pytest.mark.parametrize("payload", [None, 5, b"null", [], {}], ids=repr)
def test_what_is_no_text_is_a_payload_error(payload: Any) -> None:
    assert type(raised_by(lambda: CODEC.decode(payload))) is PayloadError


# -- failures ----------------------------------------


def check_failure(text: str) -> None:
    before, size = set(sys.modules), len(text)
    try:
        error, is_rebuilt = CODEC.decode_failure(text)
    except PayloadError:
        return
    assert isinstance(error, Exception), (error, size)
    assert is_rebuilt or type(error) is ActivityError
    assert type(CODEC.decode_failure(text, may_rebuild=False)[0]) is ActivityError
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert new <= {"celery", "celery_durable"}, new
    CODEC.encode_failure(error)


def has_odd_parts(text: str) -> bool:
    """Parts of a wrong type have a test of their own."""
    try:
        facts = CODEC.decode(text)
        state = (
            CODEC.decode(facts.get("state") or "{}")
            if isinstance(facts.get("state") or "{}", str)
            else {}
        )
    except (PayloadError, AttributeError):
        return False
    return not (
        isinstance(facts.get("traceback") or "", str)
        and isinstance(state, dict)
        and isinstance(state.get("__notes__", []), list)
    )


@fuzz
@given(hostile(FAILURES, failures))
def test_a_failure_gives_an_exception_or_a_payload_error(data: bytes) -> None:
    text = text_of(data) or ""
    if not has_odd_parts(text):
        check_failure(text)


ODD_PARTS = [
    {"traceback": 5},
    {"traceback": ["x"]},
    {"traceback": "t", "state": '{"__notes__": "text"}'},
    {"module": "celery_durable.errors", "type": "StoreError", "state": "5"},
]


@pytest.mark.parametrize("parts", ODD_PARTS, ids=lambda parts: json.dumps(parts)[:40])
def test_a_failure_with_parts_of_a_wrong_type_is_still_an_exception(parts: dict[str, Any]) -> None:
    check_failure(
        json.dumps(
            {"module": "builtins", "type": "ValueError", "message": "m", "args": [], **parts}
        )
    )


@pytest.mark.parametrize(("module", "name"), DANGEROUS, ids=lambda text: ascii(text))
def test_a_failure_never_names_code_that_runs(tmp_path: Path, module: str, name: str) -> None:
    """``os.system`` and its like are no exceptions.

    What is none becomes an ``ActivityError`` that names it.
    """
    arguments = [json.dumps(f"touch {tmp_path}/was-here"), json.dumps([1])]
    text = json.dumps(
        {"module": module, "type": name, "message": "m", "args": arguments, "state": '{"code": 1}'}
    )
    before = set(sys.modules)
    error, is_rebuilt = CODEC.decode_failure(text)
    allowed = {
        "celery_durable.errors.StoreError",
        "celery.exceptions.WorkerShutdown",
        "builtins.ExceptionGroup",
    }
    if not is_rebuilt:
        assert type(error) is ActivityError and error.type == f"{module}.{name}"
    assert isinstance(error, Exception)
    assert not is_rebuilt or f"{module}.{name}" in allowed
    assert {n for n in set(sys.modules) - before if not n.startswith("celery")} == set()
    assert not (tmp_path / "was-here").exists()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Packages whose import leaves a file behind: one that is allowed, and one that is not."""
    (tmp_path / "bin").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "bin"))
    mark = f"import pathlib; pathlib.Path({str(tmp_path)!r}, __name__).touch()\n"
    for package in ("hostile_allowed", "hostile_foreign"):
        folder = tmp_path / "bin" / package
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "bad.py").write_text(f"{mark}class Bad(Exception):\n    pass\n")
        (folder / "exits.py").write_text(f"{mark}import sys\nsys.exit(3)\n")
        (folder / "__main__.py").write_text(f"{mark}class Bad(Exception):\n    pass\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("hostile_")]:
        del sys.modules[name]


def rebuilt(module: str, name: str = "Bad") -> tuple[BaseException, bool]:
    codec = PayloadCodec(exception_modules=lambda: ["hostile_allowed"])
    return codec.decode_failure(
        json.dumps({"module": module, "type": name, "message": "m", "args": []})
    )


def test_only_a_module_of_an_allowed_package_is_imported(packages: Path) -> None:
    for module in (
        "hostile_foreign.bad",
        "hostile_foreign",
        "hostile_allowed_not.bad",
        "hostile_foreign.exits",
    ):
        assert type(rebuilt(module)[0]) is ActivityError
    assert [path.name for path in packages.iterdir() if path.name != "bin"] == []
    assert type(rebuilt("hostile_allowed.bad")[0]).__name__ == "Bad"
    assert [path.name for path in packages.iterdir() if path.name != "bin"] == [
        "hostile_allowed.bad"
    ]


@pytest.mark.parametrize("module", ["hostile_allowed.exits", "hostile_allowed.__main__"])
def test_an_import_neither_ends_the_process_nor_runs_a_program(packages: Path, module: str) -> None:
    error = raised_by(lambda: rebuilt(module))
    assert error is None, repr(error)
    assert not (packages / "hostile_allowed.__main__").exists()


def test_a_lookup_that_raises_gives_an_activity_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def lazily(name: str) -> Any:
        raise ImportError(f"{name} is not installed")

    lazy = types.ModuleType("hostile_lazy")
    lazy.__getattr__ = lazily  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "hostile_lazy", lazy)
    assert type(rebuilt("hostile_lazy", "Thing")[0]) is ActivityError


def test_an_exception_is_rebuilt_without_its_init(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    class Loud(Exception):
        def __init__(self, *args: Any) -> None:
            ran.append("init")

    Loud.__module__, Loud.__qualname__ = "hostile_loud", "Loud"
    monkeypatch.setitem(sys.modules, "hostile_loud", SimpleNamespace(Loud=Loud, Other=Loud))
    assert type(rebuilt("hostile_loud", "Loud")[0]) is Loud
    assert type(rebuilt("hostile_loud", "Other")[0]) is ActivityError, "an alias is another name"
    assert ran == []


# -- inbox rows ----------------------------------------


@pytest.mark.parametrize(
    "facts", ["{", "", "[" * 100_000, "9" * 5_000, "[1]", '"text"', "5"], ids=lambda text: text[:8]
)
def test_damaged_facts_of_an_inbox_row_are_left_to_the_turn_to_refuse(facts: str) -> None:
    found = Found(1, "EventRaised", None, 0, 0, "e", b"null", facts or " ", 1, 1, 0, 4)
    assert inbox_row(found, found.payload).facts == (facts or " ")


@fuzz
@given(hostile(PAYLOADS))
def test_the_payload_of_an_inbox_row_is_left_to_the_codec(data: bytes) -> None:
    found = Found(1, "EventRaised", None, 0, 0, "e", data, None, 1, 1, 0, len(data))
    assert isinstance(inbox_row(found, found.payload).payload, str)


# -- tags and cursors ----------------------------------------


def record_with(tags: str) -> Any:
    values = dict.fromkeys((column.name for column in instances.c), None)
    return _record(
        SimpleNamespace(_mapping={**values, "id": "i", "status": "RUNNING", "tags": tags})
    )  # type: ignore[arg-type]


def test_tags_are_read() -> None:
    assert record_with('\n["a", "b"]\n["c", "d"]\n').tags == {"a": "b", "c": "d"}


@pytest.mark.parametrize(
    "tags",
    ["\n[\n", "\n5\n", '\n["a"]\n', '\n[["a"], "b"]\n', "[" * 100_000],
    ids=lambda t: repr(t)[:9],
)
def test_damaged_tags_are_a_payload_error_or_left_out(tags: str) -> None:
    found: list[Any] = []
    error = raised_by(lambda: found.append(record_with(tags).tags))
    assert isinstance(error, PayloadError) or found == [{}], repr(error)


@fuzz
@given(
    hostile(['[1700000000000000,"id"]'], deep=False).map(
        lambda data: as_cursor(data.decode("latin-1"))
    )
    | st.text()
)
@example("é")
@example("A")
def test_a_cursor_gives_a_place_or_a_value_error(cursor: str) -> None:
    try:
        place = read_cursor(cursor)
    except ValueError as error:
        assert "is not a cursor" in str(error)
    else:
        assert isinstance(place.created_at, int) and isinstance(place.id, str)


# -- task ids ----------------------------------------


@fuzz
@given(
    st.text()
    | st.lists(st.sampled_from(["d", "x", "-", "1", "²", "٣", " ", "\x00"]), max_size=9).map(
        "".join
    )
)
def test_a_task_id_is_a_ticket_or_none(task_id: str) -> None:
    ticket = ActivityAttemptId.parse(task_id)
    assert ticket is None or (ticket.command >= 0 and ticket.attempt >= 0)


# -- the embedded broker ----------------------------------------


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[Connection, Path]]:
    register()
    path = tmp_path / "broker.db"
    with Connection(f"durable:///{path}") as connection:
        connection.SimpleQueue("q").put("first")
        yield connection, path


def alter(path: Path, sql: str, *values: Any) -> None:
    with sqlite3.connect(path, timeout=20) as database:
        database.execute(sql, values)
    database.close()


def sample_of(path: Path) -> str:
    with sqlite3.connect(path) as database:
        ((body,),) = database.execute("SELECT body FROM message").fetchall()
    database.close()
    return str(body)


def test_a_message_of_any_bytes_is_delivered_or_moved_aside(
    broker: tuple[Connection, Path],
) -> None:
    connection, path = broker
    sample = sample_of(path)
    channel = connection.default_channel

    @settings(fuzz, max_examples=(100 if is_long() else 40) * FACTOR)
    @given(hostile([sample]))
    def check(data: bytes) -> None:
        alter(path, "DELETE FROM message")
        alter(path, "INSERT INTO message (queue, priority, body) VALUES ('q', 0, ?)", data)
        alter(path, "INSERT INTO message (queue, priority, body) VALUES ('q', 0, ?)", sample)
        found = []
        while (message := channel.basic_get("q", no_ack=True)) is not None:
            found.append(message)
        assert 1 <= len(found) <= 2
        assert found[-1].decode() == "first"
        ((aside,),) = channel.file.rows("SELECT count(*) FROM message WHERE queue LIKE 'q.undec%'")
        assert aside + len(found) == 2

    check()


@pytest.mark.parametrize("body", [*BOMBS, *DEEP, "[" * 100_000], ids=lambda body: repr(body)[:12])
def test_a_hostile_message_does_not_stop_the_queue(
    broker: tuple[Connection, Path], body: str
) -> None:
    connection, path = broker
    alter(path, "UPDATE message SET body = ?", body.encode("utf-8", "surrogatepass"))
    connection.SimpleQueue("q").put("second")
    message = connection.default_channel.basic_get("q")
    assert message is not None and message.decode() == "second"


@pytest.mark.parametrize(
    "facts",
    [(None, None, None, None), ("elsewhere", "abc", b"\xff", None), ("{machine}", "abc", 5, "x")],
    ids=repr,
)
def test_a_damaged_owner_does_not_stop_the_broker(
    broker: tuple[Connection, Path], facts: tuple[Any, ...]
) -> None:
    from celery_durable.broker.file import machine

    connection, path = broker
    values = tuple(machine() if value == "{machine}" else value for value in facts)
    alter(path, "INSERT INTO owner VALUES ('damaged', ?, ?, ?, ?)", *values)
    file = connection.default_channel.file
    file._tend_at = 0
    error = raised_by(file.tend)
    assert error is None, repr(error)


@pytest.mark.parametrize("kind", ["no such type", "", 5, None], ids=repr)
def test_a_damaged_binding_does_not_stop_other_exchanges(
    broker: tuple[Connection, Path], kind: Any
) -> None:
    connection, path = broker
    alter(path, "INSERT INTO binding VALUES ('damaged', 'k', 'q', ?)", kind)
    raised_by(lambda: connection.Producer().publish("x", exchange="damaged", routing_key="k"))
    message = connection.default_channel.basic_get("q")
    assert message is not None and message.decode() == "first"


@pytest.mark.parametrize(
    "content",
    [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 200],
    ids=lambda c: repr(c)[:9],
)
def test_a_broker_file_that_is_none_fails_clearly_or_is_made_again(
    tmp_path: Path, content: bytes
) -> None:
    register()
    path = tmp_path / "broker.db"
    path.write_bytes(content)
    with Connection(f"durable:///{path}") as connection:
        error = raised_by(lambda: connection.SimpleQueue("q").put("x"))
    assert error is None or isinstance(
        error, (sqlite3.DatabaseError, ConfigurationError, DurableError)
    ), repr(error)
    assert (error is None) == (content == b"")
