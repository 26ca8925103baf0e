"""What is done to a run: one call to the store, to the broker or to the result backend does not go
as it should.

The probe numbers every call by itself, in the order in which they happen; nobody keeps a list of
them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, NamedTuple, TypeVar

from kombu.exceptions import OperationalError

from celery_durable.errors import StoreError
from tests.storeparts import WrappedStore

T = TypeVar("T")


class Died(BaseException):
    """The process is gone.

    Nothing of the product catches this, and a dead process does nothing more.
    """


class Mode(Enum):
    """What happens at a call."""

    DIES_BEFORE = auto()  #: the process is killed; what it had taken from the broker is lost
    DIES_AFTER = auto()
    #: it is killed before the call; what it had taken is delivered again at once
    IS_REPLACED = auto()
    FAILS_BEFORE = auto()  #: the call raises, and did nothing
    FAILS_AFTER = auto()  #: the call raises, but was carried out
    IS_REFUSED = auto()  #: the database asks for the whole transaction once more
    #: the process stands still until others have brought everything to an end, then goes on
    FREEZES = auto()
    IS_OVERTAKEN = auto()  #: another process takes one turn just before the call


class Call(NamedTuple):
    """One call that was made: where, which, and whether it left something behind that outlives the
    process.
    """

    place: str
    name: str
    has_effect: bool = True

    def __str__(self) -> str:
        return f"{self.place}.{self.name}"


_ERRORS: dict[str, Callable[[str], Exception]] = {
    "store": lambda name: StoreError(f"injected at {name}"),
    "broker": lambda name: OperationalError(f"injected at {name}"),
    "backend": lambda name: ConnectionError(f"injected at {name}"),
    "sql": lambda name: sqlite3.OperationalError(f"injected at {name}"),
}


class Probe:
    """Numbers the calls of a run, and disturbs those that the plan names by number."""

    def __init__(
        self,
        plan: Mapping[int, Mode] | None = None,
        places: frozenset[str] = frozenset({"store", "broker", "backend"}),
    ) -> None:
        self.plan = dict(plan or {})
        self.places = places
        self.calls: list[Call] = []
        self.disturbed: list[tuple[int, Call, Mode]] = []

    def around(self, process: Any, place: str, name: str, work: Callable[[], T]) -> T:
        """Let a process make a call, or not."""
        if process.is_dead:
            raise Died
        if process.is_bystander or place not in self.places:
            return work()
        call, number = Call(place, name), len(self.calls)
        self.calls.append(call)
        mode = self.plan.pop(number, None)
        if mode is not None:
            self.disturbed.append((number, call, mode))
        if mode in (Mode.DIES_BEFORE, Mode.IS_REPLACED):
            process.die(is_lossy=mode is Mode.DIES_BEFORE)
        if mode is Mode.FAILS_BEFORE:
            raise _ERRORS[place](str(call))
        if mode is Mode.IS_REFUSED:
            raise sqlite3.OperationalError("database is locked")
        if mode is Mode.FREEZES:
            process.freeze()
        if mode is Mode.IS_OVERTAKEN:
            process.be_overtaken()
        writes = process.writes
        result = work()
        if place == "store" and process.sees_statements:
            self.calls[number] = call._replace(has_effect=process.writes > writes)
        if mode is Mode.DIES_AFTER:
            process.die()
        if mode is Mode.FAILS_AFTER:
            raise _ERRORS[place](str(call))
        return result


class ProbedStore(WrappedStore):
    """The real store, with the probe around each of its public methods."""

    def __init__(self, store: Any, process: Any) -> None:
        super().__init__(store, self._probe)
        self._process = process

    def _probe(self, name: str, found: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._process.call("store", name, lambda: found(*args, **kwargs))

        return call


class ProbedConnection(sqlite3.Connection):
    """A connection to SQLite, with the probe around every statement of a process."""

    def __init__(self, process: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.process = process

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """Run a pragma; nobody pulls the plug of this machine."""
        return super().execute(sql.replace("synchronous=FULL", "synchronous=OFF"), *args)

    def cursor(self, factory: Any = None) -> sqlite3.Cursor:
        return super().cursor(ProbedCursor)


class ProbedCursor(sqlite3.Cursor):
    """A cursor of such a connection."""

    connection: ProbedConnection

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        run, process = super().execute, self.connection.process
        if sql == "ROLLBACK":  # what the database itself does for a process that is gone
            return run(sql)
        answer = process.call("sql", _name_of(sql), lambda: run(sql, parameters))
        process.writes += self.rowcount > 0
        return answer

    def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
        for row in rows:
            self.execute(sql, row)
        return self


_TABLE = re.compile(r"durable_(instances|history|inbox|outbox|workers|meta|alembic_version)")


def _name_of(sql: str) -> str:
    table = _TABLE.search(sql)
    return sql.split(maxsplit=1)[0] + (f" {table[1]}" if table else "")
