"""Values and exceptions as text: what survives, what is refused, and what is never run."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import serialization

from celery_durable import errors
from celery_durable.errors import ActivityError, DurableError, PayloadError
from celery_durable.payload import PayloadCodec


@pytest.fixture
def codec():
    return PayloadCodec()


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, 0, "", [], {}, False, 0.0, "null", "!", "!application/json;utf-8;bnVsbA=="]
)
def test_falsy_and_odd_values_survive(codec, value):
    decoded = codec.decode(codec.encode(value))
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        datetime(2030, 1, 2, tzinfo=timezone(timedelta(hours=9))),
        datetime(2030, 1, 2, 3, 4, 5),
        Decimal("12.340"),
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        b"text",
        b"\x00\xff\xfe",
        10**40,
        "\ud800 lone surrogate",
        "null\x00byte",
    ],
    ids=repr,
)
def test_the_types_that_the_json_serializer_knows_survive_anywhere(codec, value):
    assert codec.decode(codec.encode(value)) == value
    assert codec.decode(codec.encode({"deep": [{"er": value}]})) == {"deep": [{"er": value}]}
    assert type(codec.decode(codec.encode(value))) is type(value)


def test_dates_and_times_are_encoded(codec):
    assert codec.decode(codec.encode([date(2030, 1, 2), time(3, 4)])) is not None


def test_tuples_become_lists(codec):
    assert codec.decode(codec.encode((1, (2, 3)))) == [1, [2, 3]]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(min_size=1).map("k{}".format), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_whatever_is_encoded_is_decoded_alike(value):
    codec = PayloadCodec()
    assert codec.decode(codec.encode(value)) == value


def test_infinities_survive(codec):
    assert codec.decode(codec.encode(math.inf)) == math.inf


class Order:
    pass


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Order(), "a value of type"),
        ([1, Order()], "a value[1] of type"),
        (
            {"order": {"lines": [0, 1, {"item": Order()}]}},
            "a value['order']['lines'][2]['item'] of type",
        ),
        (({"a": 1}, [Order()]), "a value[1][0] of type"),
    ],
)
def test_what_cannot_be_encoded_is_named_with_the_way_to_it(codec, value, path):
    with pytest.raises(PayloadError) as caught:
        codec.encode(value)
    assert path in str(caught.value)
    assert "test_payload.Order" in str(caught.value)
    assert "'json'" in str(caught.value)


def test_a_key_that_cannot_be_encoded_names_its_dict(codec):
    with pytest.raises(PayloadError, match=r"a value\['a'\] of type builtins\.dict.*keys must be"):
        codec.encode({"a": {(1, 2): 3}})


def holding_itself():
    loop: list[object] = []
    loop.append(loop)
    return loop


def nested(depth):
    deep: object = 1
    for _ in range(depth):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "make", [holding_itself, lambda: nested(20_000)], ids=["holds_itself", "too_deep"]
)
def test_a_value_without_an_end_is_refused_like_any_other(codec, make):
    error = outcome_of(codec.encode, make())
    assert error is PayloadError


def outcome_of(function, *args):
    """The type of what a function raised.

    Its traceback is too long to show where the recursion ran out.
    """
    try:
        function(*args)
    except Exception as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,",
        "nul",
        "!",
        "!x",
        "!application/json;utf-8;***",
        "!application/json;utf-8;AA==",
        '{"__type__": "decimal"}',
    ],
)
def test_damaged_payloads_raise_payload_error_or_are_plain_values(codec, text):
    try:
        codec.decode(text)
    except PayloadError as error:
        assert "stored payload" in str(error)


@given(st.text() | st.text().map("!{}".format))
def test_hostile_payloads_raise_payload_error_only(text):
    codec = PayloadCodec()
    for read in (codec.decode, codec.decode_failure):
        try:
            read(text)
        except PayloadError:
            pass


def test_a_payload_that_is_nested_too_deeply_raises_payload_error(codec):
    assert outcome_of(codec.decode, "[" * 3_000) is PayloadError


# -- sizes -----------------------------------------------------------------------------------------


def test_a_payload_over_the_limit_is_refused_with_its_size():
    codec = PayloadCodec(limit=10)
    assert codec.encode("12345678") == '"12345678"'
    with pytest.raises(PayloadError, match="durable_payload_limit") as caught:
        codec.encode("123456789")
    assert (caught.value.size, caught.value.limit) == (11, 10)


def test_a_large_payload_is_logged(caplog):
    codec = PayloadCodec(warning=10)
    codec.encode("12345678")
    assert caplog.text == ""
    codec.encode("123456789")
    assert "11 bytes" in caplog.text


@pytest.mark.parametrize(
    "parts", [{"args": ("x" * 500,)}, {"args": (), "a": "x" * 60, "b": "x" * 60}]
)
def test_a_failure_over_the_limit_is_still_encoded(parts):
    codec = PayloadCodec(limit=100)
    error = ValueError(*parts.pop("args"))
    error.__dict__.update(parts)
    assert outcome_of(codec.encode_failure, error) is None
    assert type(codec.decode_failure(codec.encode_failure(error))[0]) is ValueError


# -- serializers -----------------------------------------------------------------------------------


class Mark:
    """Something whose unpickling would be seen."""

    seen = 0

    def __reduce__(self):
        return _unpickled, ()


def _unpickled():
    Mark.seen += 1


def test_pickle_is_read_only_where_it_is_written():
    stored = PayloadCodec("pickle").encode(Mark())
    Mark.seen = 0
    with pytest.raises(PayloadError, match=r"application/x-python-serialize.*not accepted"):
        PayloadCodec("json", accept=["pickle", "application/x-python-serialize"]).decode(stored)
    assert Mark.seen == 0
    PayloadCodec("pickle").decode(stored)
    assert Mark.seen == 1


def test_a_pickle_payload_keeps_what_json_cannot():
    codec = PayloadCodec("pickle")
    value = {(1, 2): {3, 4}, "when": date(2030, 1, 1)}
    assert codec.decode(codec.encode(value)) == value


def test_json_is_read_whatever_the_serializer_is():
    assert PayloadCodec("pickle").decode(PayloadCodec("json").encode([1, None])) == [1, None]


def test_an_accepted_content_type_may_be_named_either_way():
    serialization.register("lines", json.dumps, json.loads, "application/x-lines", "utf-8")
    try:
        stored = PayloadCodec("lines").encode(1)
        for name in ("lines", "application/x-lines"):
            assert PayloadCodec("json", accept=[name]).decode(stored) == 1
    finally:
        serialization.unregister("lines")


def test_an_unknown_content_type_is_refused():
    with pytest.raises(PayloadError, match="not accepted"):
        PayloadCodec().decode("!application/x-undelivered-of;utf-8;AAAA")


# -- exceptions ------------------------------------------------------------------------------------


class CardDeclined(Exception):
    """An ordinary exception of an application, with attributes of its own."""

    constructed = 0

    def __init__(self, code, *, amount):
        super().__init__(f"declined with {code}")
        type(self).constructed += 1
        self.code = code
        self.amount = amount


class Bank:
    class Closed(LookupError):
        pass


class Stubborn(Exception):
    def __new__(cls, *args):
        if args != ("right",):
            raise RuntimeError("cannot be made like this")
        return super().__new__(cls, *args)


class Unreadable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class ShutDown(BaseException):
    pass


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain"),
        KeyError("key"),
        ZeroDivisionError(),
        OSError(5, "input/output"),
        FileNotFoundError(2, "no such file"),
        TimeoutError("late"),
        TimeoutError(),
        RuntimeError("two", {"parts": [1]}),
        Bank.Closed("nested"),
        json.JSONDecodeError("broken", "doc", 1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_is_rebuilt_with_its_type_and_text(codec, error):
    rebuilt, is_original = codec.decode_failure(codec.encode_failure(raised(error)))
    assert is_original
    assert type(rebuilt) is type(error)
    assert rebuilt.args == error.args
    assert str(rebuilt) == str(error)


def test_errno_and_filename_of_an_os_error_survive(codec):
    rebuilt, _ = codec.decode_failure(
        codec.encode_failure(FileNotFoundError(2, "no such file", "/etc/orders"))
    )
    assert (rebuilt.errno, rebuilt.strerror, rebuilt.filename) == (2, "no such file", "/etc/orders")


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte"),
        SyntaxError("bad syntax"),
        ImportError("no", name="x"),
    ],
)
def test_builtin_exceptions_with_fields_of_their_own_keep_their_text(codec, error):
    rebuilt, _ = codec.decode_failure(codec.encode_failure(error))
    assert str(error) in str(rebuilt)


def test_an_exception_is_rebuilt_without_calling_its_init_and_keeps_its_attributes(codec):
    stored = codec.encode_failure(raised(CardDeclined("do_not_honor", amount=Decimal("9.90"))))
    before = CardDeclined.constructed
    rebuilt, is_original = codec.decode_failure(stored)
    assert is_original
    assert CardDeclined.constructed == before
    assert (rebuilt.code, rebuilt.amount, str(rebuilt)) == (
        "do_not_honor",
        Decimal("9.90"),
        "declined with do_not_honor",
    )


def test_attributes_that_cannot_be_encoded_are_left_out(codec):
    error = ValueError("x")
    error.response, error.status = object(), 402
    rebuilt, _ = codec.decode_failure(codec.encode_failure(error))
    assert rebuilt.status == 402
    assert not hasattr(rebuilt, "response")


def test_arguments_that_cannot_be_encoded_are_kept_as_text(codec):
    rebuilt, _ = codec.decode_failure(codec.encode_failure(ValueError("x", Order)))
    assert rebuilt.args == ("x", repr(Order))


def test_the_traceback_of_the_activity_travels_as_a_note(codec):
    rebuilt, _ = codec.decode_failure(codec.encode_failure(raised(ValueError("x"))))
    assert "in raised" in rebuilt.__notes__[0]
    without, _ = codec.decode_failure(codec.encode_failure(ValueError("x")))
    assert not hasattr(without, "__notes__")


def local_class():
    class Local(Exception):
        pass

    return Local


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (local_class()("of a function"), "local_class.<locals>.Local"),
        (Stubborn("right"), "Stubborn"),
        (ShutDown("base"), "ShutDown"),
        (SystemExit(3), "builtins.SystemExit"),
        (KeyboardInterrupt(), "builtins.KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (BaseExceptionGroup("several", [KeyboardInterrupt()]), "builtins.BaseExceptionGroup"),
        (StopIteration(3), "builtins.StopIteration"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_cannot_be_rebuilt_becomes_an_activity_error_with_facts(codec, error, name):
    if isinstance(error, Stubborn):
        error.args = ("changed since",)
    rebuilt, is_original = codec.decode_failure(codec.encode_failure(raised(error)))
    assert not is_original
    assert type(rebuilt) is ActivityError
    assert rebuilt.type.endswith(name)
    assert name in str(rebuilt)
    assert str(error) in str(rebuilt)
    assert rebuilt.facts["message"] == str(error)
    assert "Traceback" in rebuilt.traceback


def test_a_recorded_failure_that_was_not_rebuilt_is_not_rebuilt_on_replay_either(codec):
    stored = codec.encode_failure(ValueError("x"))
    error, is_original = codec.decode_failure(stored, may_rebuild=False)
    assert not is_original
    assert type(error) is ActivityError
    assert error.type == "builtins.ValueError"


def failure(module, name, **facts):
    return json.dumps(
        {"module": module, "type": name, "message": "m", "args": [], "traceback": None, **facts}
    )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "print"),
        ("builtins", "object"),
        ("builtins", "NoSuchError"),
        ("builtins", "BaseException"),
        ("os", "system"),
        ("subprocess", "Popen"),
        ("sys", "modules"),
        ("no.such.module", "Error"),
        ("json", "decoder.JSONDecodeError"),
        ("json.decoder", ""),
        ("json.decoder", "JSONDecodeError.__init__"),
        ("", ""),
        ("..", "x"),
        ("None", "x"),
    ],
)
def test_only_exception_classes_under_their_own_name_are_rebuilt(codec, module, name):
    error, is_original = codec.decode_failure(failure(module, name))
    assert not is_original
    assert type(error) is ActivityError


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two packages that nobody has imported, each with an exception."""
    for name in ("durable_allowed", "durable_stranger"):
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "errors.py").write_text("class Gone(Exception):\n    pass\n")
        (package / "broken.py").write_text("raise RuntimeError('on import')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for module in [module for module in sys.modules if module.startswith("durable_")]:
        del sys.modules[module]


def test_only_modules_of_allowed_packages_are_imported(packages):
    codec = PayloadCodec(exception_modules=lambda: ["durable_allowed"])
    error, is_original = codec.decode_failure(failure("durable_stranger.errors", "Gone"))
    assert (type(error), is_original) == (ActivityError, False)
    assert not any(module.startswith("durable_stranger") for module in sys.modules)
    error, is_original = codec.decode_failure(failure("durable_allowed.errors", "Gone"))
    assert (type(error).__name__, is_original) == ("Gone", True)


def test_a_module_of_an_allowed_package_that_cannot_be_imported_gives_an_activity_error(packages):
    codec = PayloadCodec(exception_modules=lambda: ["durable_allowed"])
    for module in (
        "durable_allowed.broken",
        "durable_allowed.missing",
        "durable_allowed_not.errors",
    ):
        assert type(codec.decode_failure(failure(module, "Gone"))[0]) is ActivityError


@pytest.mark.parametrize(
    "damaged",
    [
        "null",
        "[]",
        '"x"',
        "{}",
        '{"module": "builtins"}',
        "!x",
        failure("builtins", "ValueError", args=["{"]),
    ],
)
def test_a_damaged_failure_raises_payload_error_or_gives_an_activity_error(codec, damaged):
    try:
        error, is_original = codec.decode_failure(damaged)
    except PayloadError:
        return
    assert not is_original
    assert type(error) is ActivityError


class BrokenRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "error",
    [
        Unreadable("x"),
        ValueError(holding_itself()),
        ValueError(BrokenRepr()),
        ValueError(b"\xff", "\ud800"),
    ],
    ids=["broken_str", "cyclic_argument", "broken_repr", "odd_bytes"],
)
def test_encoding_a_failure_never_raises(codec, error):
    assert outcome_of(codec.encode_failure, error) is None
    assert json.loads(codec.encode_failure(error))["type"] == type(error).__name__


# -- the package's own errors ----------------------------------------------------------------------

ALL_ERRORS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("cls", ALL_ERRORS, ids=lambda cls: cls.__name__)
def test_every_error_of_the_package_survives_the_codec_with_its_facts(codec, cls):
    error = cls("what happened", instance_id="order-42", event=17, status="FAILED")
    rebuilt, is_original = codec.decode_failure(codec.encode_failure(raised(error)))
    assert is_original
    assert type(rebuilt) is cls
    assert str(rebuilt) == "what happened"
    assert rebuilt.facts == error.facts
    assert (rebuilt.instance_id, rebuilt.event) == ("order-42", 17)


def test_facts_that_cannot_be_encoded_are_left_out(codec):
    rebuilt, _ = codec.decode_failure(codec.encode_failure(DurableError("x", good=1, bad=object())))
    assert rebuilt.facts == {"good": 1}


def test_an_error_of_the_package_without_facts_still_has_none_after_the_codec(codec):
    rebuilt, _ = codec.decode_failure(codec.encode_failure(DurableError("x")))
    assert rebuilt.facts == {}


def test_a_task_without_a_module_is_in_nobodys_way(new_app: Any) -> None:
    app = new_app(task_always_eager=True)
    scope: dict[str, Any] = {"app": app}
    exec("@app.task(name='exec.made', shared=False)\ndef made(): raise KeyError('broken')", scope)
    assert type(app.tasks["exec.made"]).__module__ is None

    @app.durable.orchestrator(name="exec.calls", shared=False)
    async def calls(ctx: Any) -> None:
        await ctx.call(app.tasks["exec.made"].s())

    failure = app.durable.start(calls.s()).refresh().failure
    assert isinstance(failure, KeyError)
