"""The clock of one process goes wrong by ``CHAOS_CLOCK_OFFSET`` seconds: everything that Python
code can ask.

Found by the interpreter itself, before anything else is imported, when this directory is on
``PYTHONPATH``.
"""

import datetime as _datetime
import os
import time

_offset = float(os.environ.get("CHAOS_CLOCK_OFFSET", "0"))


def _go_wrong() -> None:
    real_time, real_ns, real = time.time, time.time_ns, _datetime.datetime

    time.time = lambda: real_time() + _offset
    time.time_ns = lambda: real_ns() + int(_offset * 1_000_000_000)

    class Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, real)

    class datetime(real, metaclass=Kind):
        @classmethod
        def now(cls, tz: _datetime.tzinfo | None = None) -> _datetime.datetime:
            return real.fromtimestamp(time.time(), tz)

        @classmethod
        def today(cls) -> _datetime.datetime:
            return real.fromtimestamp(time.time())

        @classmethod
        def utcnow(cls) -> _datetime.datetime:
            return real.fromtimestamp(time.time(), _datetime.UTC).replace(tzinfo=None)

    _datetime.datetime = datetime


if _offset:
    _go_wrong()
