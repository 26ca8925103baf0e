"""Hostile text and bytes: samples that are valid, mutations of them, and garbage that has the shape
of the real thing.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

#: The long form of the fuzz tests has so many times as many examples.
FACTOR = int(os.environ.get("DURABLE_SECURITY_FACTOR", "1"))
INJECTIONS = [
    "'; DROP TABLE durable_instances; --",
    '"; DELETE FROM durable_inbox; --',
    "' OR '1'='1",
    "') OR 1=1 --",
    "\\'; DELETE FROM durable_history; #",
    "1; UPDATE durable_instances SET status='COMPLETED'",
    "' UNION SELECT 1,2,3 --",
    "x' AND SLEEP(5) --",
    "'; SELECT pg_sleep(5); --",
    "%(id)s",
    ":id",
    "{now}",
    "$1",
    "?",
    "%s",
    "%",
    "_",
    "\\",
    "''",
    '""',
]
ODD_TEXTS = [
    *INJECTIONS,
    " ",
    "  trailing  ",
    "\t\n\r",
    "a\x00b",
    "\x00",
    "\x01\x1f\x7f\x85",
    "\ud800",
    "x\udfffy",
    "\u202eright to left\u202c",
    "\u05d0\u05d1\u0628",
    "\u200b\u200d\ufeff",
    "e\u0301",
    "\u00e9",
    "\U0001f600",
    "\uffff",
    "\ufffd",
    "\U0010ffff",
    "\u2028\u2029",
    "x" * 10_000,
    "\U0001f600" * 10_000,
    "<script>",
    "../../etc/passwd",
]


def has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def is_no_pair(text: str) -> bool:
    """Two halves of one character are one character in JSON; they have a test of their own."""
    return not any("\ud800" <= a <= "\udbff" < b <= "\udfff" for a, b in itertools.pairwise(text))


any_text = (
    st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=()), max_size=40)
).filter(is_no_pair)
#: What every database's text columns can hold; the rest is told apart where a test expects it to be
#: refused.
whole_text = any_text.filter(lambda text: not has_surrogate(text))

# -- structured garbage ----------------------------------------

KINDS = [
    "ExecutionStarted",
    "ActivityCompleted",
    "ActivityFailed",
    "TimerFired",
    "EventRaised",
    "ChildCompleted",
    "ActivityScheduled",
    "TimerCreated",
    "RunRecorded",
    "JoinFormed",
    "JoinDissolved",
    "ExecutionSuspended",
    "Join",
    "TerminateRequested",
    "NoSuchKind",
    "__class__",
    "",
]
DANGEROUS = [
    ("os", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "BaseException"),
    ("builtins", "SystemExit"),
    ("builtins", "KeyboardInterrupt"),
    ("builtins", "GeneratorExit"),
    ("builtins", "type"),
    ("builtins", "object"),
    ("sys", "exit"),
    ("posix", "_exit"),
    ("importlib", "import_module"),
    ("pickle", "loads"),
    ("antigravity", "X"),
    ("this", "X"),
    ("celery_durable.__main__", "X"),
    ("celery_durable.errors", "DurableError.__class__"),
    ("celery_durable.payload", "PayloadCodec"),
    ("asyncio", "CancelledError"),
    ("", ""),
    (".", "."),
    ("..", "x.y"),
    ("os.path", "join.__globals__"),
    ("builtins", "__import__"),
    ("builtins", "ValueError.__init__"),
    ("a\x00b", "c\x00d"),
    ("celery_durable.errors", "StoreError"),
    ("celery.exceptions", "WorkerShutdown"),
    ("builtins", "ExceptionGroup"),
]
NUMBERS = [
    0,
    -1,
    2**31,
    2**63,
    10**30,
    -(10**400),
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    True,
]
TAGS = [
    "datetime",
    "date",
    "time",
    "decimal",
    "uuid",
    "bytes",
    "base64",
    "tzinfo",
    "os.system",
    "__reduce__",
    "",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(NUMBERS)
    | st.text(max_size=8)
    | st.sampled_from(KINDS)
    | st.sampled_from(["[[], {}]", "null", "{", "!application/x-python-serialize;binary;gASV"])
)
tagged = st.builds(
    lambda tag, value: {"__type__": tag, "__value__": value},
    st.sampled_from(TAGS) | scalars,
    scalars,
)
keys = st.sampled_from(
    [
        "members",
        "failed",
        "rebuilt",
        "id",
        "reason",
        "module",
        "type",
        "args",
        "state",
        "traceback",
        "message",
        "finish",
        "options",
        "reply",
        "queue",
        "headers",
    ]
) | st.text(max_size=4)
json_values = st.recursive(
    scalars | tagged,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
events = st.lists(
    st.builds(
        lambda kind, rest: [kind, *rest],
        st.sampled_from(KINDS) | scalars,
        st.lists(json_values, max_size=7),
    )
    | json_values,
    max_size=4,
)


def _failure(names: tuple[str, str], parts: dict[str, Any]) -> dict[str, Any]:
    return {"module": names[0], "type": names[1], "message": "m", "args": ['"a"'], **parts}


encoded = json_values.map(json.dumps)
failures = st.builds(
    _failure,
    st.sampled_from(
        [*DANGEROUS, ("builtins", "ValueError"), ("celery_durable.errors", "ActivityError")]
    ),
    st.dictionaries(
        st.sampled_from(["args", "state", "traceback", "message", "module", "type"]),
        json_values | encoded | st.lists(encoded, max_size=3),
        max_size=3,
    ),
)

# -- text that is no JSON, or worse ----------------------------------------

#: The depth is enough to pass every limit on recursion, and little enough to be printed.
DEEP = ["[" * 4_000, '{"a":' * 4_000, "[" * 4_000 + "]" * 4_000]
BOMBS = [
    "9" * 5_000,
    "-" + "9" * 5_000,
    "1e999999",
    "NaN",
    "[NaN]",
    "Infinity",
    "[-Infinity]",
    '{"a":1,"a":2}',
    '{"id":"x","id":5}',
    "",
    " ",
    "null",
    "[",
    "{}",
    "[]",
    '"',
    "'",
    "\ufeff[]",
    "[1,]",
    "0x10",
    "undefined",
    '{"__type__":"datetime","__value__":5}',
    '{"__type__":[],"__value__":[]}',
    "\x00",
    "[\x00]",
    '{"__type__":"decimal","__value__":"9e999999999"}',
    '{"__type__":"bytes","__value__":{}}',
    "!",
    "!;;",
    "!;;;",
    "!a;b;c",
    "!application/json;utf-8;gA==",
    "!application/json;no-such-codec;bnVsbA==",
    "!application/data;binary;AAAA",
    "!application/x-python-serialize;binary;gASVCAAAAAAAAACMBHRydWWULg==",
    "!application/x-yaml;utf-8;ISFweXRob24vbmFtZTpvcy5z",
    '"\\ud800"',
    '["\\u0000"]',
    '[["ExecutionStarted",' + "9" * 5_000 + "]]",
]


def structured(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return values.map(json.dumps)


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[str]) -> bytes:
    """A valid sample with some bytes flipped, cut out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(list(samples))).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        change = draw(st.sampled_from(["flip", "cut", "truncate", "double", "insert", "digit"]))
        if change == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "cut":
            del data[at : at + draw(st.integers(1, 8))]
        elif change == "truncate":
            del data[at:]
        elif change == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 30))]
        elif change == "digit" and data:
            data[at] = ord(str(draw(st.integers(0, 9))))
        else:
            data[at:at] = draw(
                st.binary(max_size=6)
                | st.sampled_from([b"\xff\xfe", b'"', b"[", b"\x00", b"\xed\xa0\x80"])
            )
    return bytes(data)


def hostile(
    samples: Sequence[str], values: st.SearchStrategy[Any] = json_values, *, deep: bool = True
) -> st.SearchStrategy[bytes]:
    """Everything above, as the bytes that lie in a row."""
    return (
        mutated(samples)
        | structured(values).map(str.encode)
        | st.sampled_from([*BOMBS, *(DEEP if deep else ())]).map(
            lambda text: text.encode("utf-8", "surrogatepass")
        )
        | st.binary(max_size=40)
    )


def as_cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode()


def raised_by(call: Callable[[], Any]) -> BaseException | None:
    """Return what a call raises, or None."""
    try:
        call()
    except BaseException as error:
        return error
    return None
