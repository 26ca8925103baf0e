"""Worlds of ``tests.faults`` whose rows and messages are noted after every step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from kombu.message import Message

from celery_durable.engine.records import ActivityAttemptId
from celery_durable.store.schema import metadata
from celery_durable.store.values import ELSEWHERE, ENCODED, Elsewhere
from celery_durable.store.vault import Vault
from tests.faults.broker import Broker
from tests.faults.programs import Program
from tests.faults.stage import World

from .journal import KEYS, Journal

HERE = Path(__file__).parent
#: Those in which the engine's own rows are.
_APART = ("durable_meta", "durable_objects")
_TABLES = [table for table in metadata.sorted_tables if table.name not in _APART]
#: Of another process, or of this machine.
_FOREIGN = {"origin", "reply_to", "declare"}


class ListeningBroker(Broker):
    """Remembers what was published since it was asked last, and what it has delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[dict[str, Any]] = []
        self.delivered = ""

    def put(
        self,
        body: Any,
        routing_key: str,
        headers: dict[str, Any],
        serializer: str,
        **properties: Any,
    ) -> None:
        super().put(body, routing_key, headers, serializer, **properties)
        self.published.append(
            {
                "queue": routing_key,
                "serializer": serializer,
                "headers": {name: value for name, value in headers.items() if name not in _FOREIGN},
                "body": self.parcels[-1].body,
                "options": {
                    name: _in_words(value)
                    for name, value in properties.items()
                    if name not in _FOREIGN and value is not None
                },
            }
        )

    def take(self, owner: Any, queues: frozenset[str], now: int) -> Message | None:
        message = super().take(owner, queues, now)
        if message is not None:
            headers = message.headers
            kind = (headers.get("durable") or {"t": "ordinary"}).get("t", "activity")
            self.delivered = f"{kind} message {headers['id']} of {headers['task']}"
        return message


def _in_words(value: Any) -> Any:
    """Return an option of a message as JSON can hold it."""
    if isinstance(value, dict):
        return {name: _in_words(each) for name, each in value.items() if each is not None}
    return value if isinstance(value, (str, int, float, bool)) else str(value)


class EagerVault(Vault):
    """Opens everything at once, also what is elsewhere."""

    def opened(self, value: Any) -> Any:
        found = super().opened(value)
        return found.fetch() if isinstance(found, Elsewhere) else found


class GoldenWorld(World):
    """A world with a journal."""

    def __init__(self, url: str, program: Program, *args: Any, **options: Any) -> None:
        super().__init__(url, program, *args, **options)
        self.broker = ListeningBroker()
        self.tokens: list[str] = []
        self.is_repaired = False
        self._told: dict[str, Any] = {}
        self.journal = Journal(self.clock.now())
        #: Opens what the store holds; None where it holds things as they are.
        self.vault: Vault | None = None
        #: The payloads that were read and not sealed.
        self.unsealed: list[bytes] = []

    def rows(self, statement: Any) -> list[Any]:
        """Read the store from outside."""
        found = super().rows(statement)
        if self.vault is None:
            return found
        payloads = [bytes(each) for row in found for each in row if isinstance(each, bytes)]
        self.unsealed += [each for each in payloads if not each.startswith((ENCODED, ELSEWHERE))]
        return list(self.vault.opened_rows(found))

    def is_held(self) -> bool:
        """Tell whether a pause holds an attempt."""
        return bool(self.rows(sa.select(metadata.tables["durable_held"])))

    def activity_is_acknowledged(self, ticket: ActivityAttemptId) -> None:
        """Programs with pauses and tokens let a message go, and know the attempt by its row."""

    def _work(self, idle: int) -> bool:
        step, self.broker.delivered = self._next_step, ""
        is_busy = super()._work(idle)
        if self._next_step != step:
            self._note(f"client's step {step + 1}")
        else:
            self._note(self.broker.delivered or "a second passes")
        return is_busy

    def _note(self, step: str) -> None:
        tables = {
            table.name: (
                KEYS.get(table.name) or [column.name for column in table.primary_key],
                [row._mapping for row in self.rows(sa.select(table).order_by(*_order(table)))],
            )
            for table in _TABLES
        }
        told = {
            str(key): value for key, value in self.results.items() if self._told.get(key) != value
        }
        self._told = dict(self.results)
        sent, self.broker.published = self.broker.published, []
        self.journal.note(step, tables, sent, told)

    def is_over(self) -> bool:
        """Tell whether nothing is left to do; entities never end."""
        if self._next_step < len(self.program.steps) or self.broker.taken:
            return False
        if any(parcel.queue in self.queues for parcel in self.broker.parcels):
            return False
        inbox, outbox = (metadata.tables[f"durable_{name}"] for name in ("inbox", "outbox"))
        left = [sa.select(inbox).where(inbox.c.wake_at.is_not(None)), sa.select(outbox)]
        return self.is_ended() and not any(self.rows(statement) for statement in left)


def _order(table: Any) -> list[Any]:
    return list(table.primary_key)


def kept(program: Program) -> Path:
    """Return where the journal of a program is kept."""
    return HERE / f"{program.name}.json"


def text_of(steps: Any) -> str:
    """Return a journal as it is kept."""
    return json.dumps(steps, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
