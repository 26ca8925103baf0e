"""Today's code against histories: of one document, or of every instance that runs.

Nothing is committed or sent.

A replay runs the orchestrator up to where its history ends, and nothing beyond: no activity, no
``ctx.run``, no command.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from .._errors import DurableError, NonDeterminismError, PayloadError
from ..core.canvas_options import CanvasOptions
from ..core.machine import Machine
from ..core.plain_task import TASK
from ..core.status import RuntimeStatus
from ..core.times import EPOCH
from .engine import Engine
from .listing import Filters, InstanceRecord, VersionUse
from .propagation import ContextNotRestored
from .records import InstanceRow
from .registry import Registry
from .replay import replay_rows
from .store_ports import Store
from .version_choice import OPEN

__all__ = [
    "Problem",
    "RecordedHistory",
    "Verification",
    "Verifier",
    "export_history",
    "read_history",
]

_FORMAT = 1
_GZIP = b"\x1f\x8b"
_LIVE = tuple(status for status in RuntimeStatus if not status.is_terminal)


@dataclass(frozen=True)
class Problem:
    """One history that the code cannot follow."""

    instance_id: str
    name: str
    version: str | None
    error: DurableError

    def __str__(self) -> str:
        version = f" v{self.version}" if self.version is not None else ""
        return (
            f"{self.instance_id} ({self.name}{version}): {type(self.error).__name__}: {self.error}"
        )


@dataclass
class Verification:
    """What ``durable.verify`` found; its text is a report for people."""

    #: How many histories were replayed.
    checked: int = 0
    #: Those that the code cannot follow, and why.
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """True if the code follows every history that was checked."""
        return not self.problems

    def raise_for_problems(self) -> None:
        """Raise if there is any problem; the gate of a deployment.

        Raises:
            NonDeterminismError: its text is the report.
        """
        if self.problems:
            raise NonDeterminismError(
                str(self), instances=[problem.instance_id for problem in self.problems]
            )

    def __str__(self) -> str:
        lines = [f"{self.checked} histories checked, {len(self.problems)} do not fit the code"]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems)])


@dataclass(frozen=True)
class RecordedHistory:
    """One history to replay."""

    #: The orchestration that it is of, as a turn reads it.
    instance: InstanceRow
    #: The events of each turn, encoded.
    rows: Sequence[str]


def _iso(moment: int | None) -> str | None:
    return None if moment is None else (EPOCH + timedelta(microseconds=moment)).isoformat()


def export_history(record: InstanceRecord, rows: Iterable[str]) -> str:
    """Return one history as a JSON document that ``durable.replay`` takes."""
    return json.dumps(
        {
            "format": _FORMAT,
            "instance_id": record.id,
            "execution_id": record.execution,
            "name": record.name,
            "version": record.version,
            "parent_id": record.parent_id,
            "status": str(record.status),
            "reason": record.reason,
            "tags": record.tags,
            "created_at": _iso(record.created_at),
            "started_at": _iso(record.started_at),
            "completed_at": _iso(record.completed_at),
            "custom_status": record.custom_status,
            "output": record.output,
            "failure": record.failure,
            "options": CanvasOptions.of_replay(record.canvas),
            "history": [json.loads(row) for row in rows],
        },
        indent=1,
    )


@dataclass(frozen=True)
class Verifier:
    """Replays histories on the code of this process."""

    store: Store
    registry: Registry
    runner: Engine

    def replay(
        self, document: str | bytes | Mapping[str, Any], *, checks_arguments: bool = False
    ) -> int:
        """Replay an exported history and return the number of its events.

        Raises:
            NonDeterminismError: the code asks for something else; the text says what, and where in
                the code.
            PayloadError: the document or something in it is damaged.
            DurableError: no orchestrator of that name and version is registered.
        """
        return self._replay(read_history(document), checks_arguments)

    def verify_documents(
        self, documents: Iterable[str | bytes | Mapping[str, Any]], **options: Any
    ) -> Verification:
        """Replay exported histories; see ``replay``."""
        return self._verify((read_history(document) for document in documents), **options)

    def verify_live(self, filters: Filters, *, batch: int = 200, **options: Any) -> Verification:
        """Replay the history of every instance that has not ended and matches."""
        return self._verify(self._live(filters, batch), **options)

    def _live(self, filters: Filters, batch: int) -> Iterator[RecordedHistory]:
        cursor: str | None = None
        while True:
            page, cursor = self.store.reads.find(filters, batch, cursor)
            for record in page:
                snapshot = self.store.turns.load(record.id, None)
                if snapshot is not None and not snapshot.instance.status.is_terminal:
                    yield RecordedHistory(snapshot.instance, snapshot.history)
            if cursor is None:
                return

    def _verify(
        self, histories: Iterable[RecordedHistory], *, checks_arguments: bool = False
    ) -> Verification:
        found = Verification()
        for recorded in histories:
            found.checked += 1
            instance = recorded.instance
            try:
                self._replay(recorded, checks_arguments)
            except DurableError as error:
                found.problems.append(Problem(instance.id, instance.name, instance.version, error))
        return found

    def _replay(self, recorded: RecordedHistory, checks_arguments: bool) -> int:
        instance, runner = recorded.instance, self.runner
        definition = self.registry.get(instance.name, instance.version)
        if definition is None:
            version = (
                "without a version" if instance.version is None else f"version {instance.version!r}"
            )
            raise DurableError(
                f"no orchestrator {instance.name!r} {version} is registered here",
                instance_id=instance.id,
            )
        try:
            with runner.propagators.restored(runner.codec, instance.canvas):
                execution = runner.replayer.new_of(
                    Machine,
                    instance,
                    definition,
                    traces=True,
                    checks_arguments=checks_arguments,
                    is_dry=True,
                )
                try:
                    runner.watchdog.watch(
                        instance.id, lambda: replay_rows(execution, recorded.rows)
                    )
                    return execution.history_length
                finally:
                    execution.abandon()
        except ContextNotRestored as error:
            raise DurableError(str(error), instance_id=instance.id) from error

    def versions(self) -> list[VersionUse]:
        """Return how many instances that are not over need each name and version, and whether this
        process has it.
        """
        versions, live = self.runner.versions, dict[tuple[str, str | None], int]()
        for name, version, count in self.store.reads.count_versions(_LIVE):
            if version == TASK:
                continue
            newest = self.registry.newest(name) if version == OPEN else None
            chosen = newest.version if newest is not None else version
            live[name, chosen] = live.get((name, chosen), 0) + count
        for name in self.registry.names():
            for version in self.registry.versions(name):
                live.setdefault((name, version), 0)
        return [
            VersionUse(
                name,
                version,
                count,
                self.registry.get(name, version) is not None,
                versions.share(name, version),
                versions.is_ramped(name, version),
            )
            for (name, version), count in sorted(
                live.items(), key=lambda item: (item[0][0], item[0][1] or "")
            )
        ]


def read_history(document: str | bytes | Mapping[str, Any]) -> RecordedHistory:
    """Read an exported history.

    Raises:
        PayloadError: the document is damaged.
    """
    try:
        if isinstance(document, bytes) and document.startswith(_GZIP):
            document = gzip.decompress(document)
        found = document if isinstance(document, Mapping) else json.loads(document)
        if found["format"] != _FORMAT:
            raise ValueError(f"its format is {found['format']!r}, this release reads {_FORMAT}")
        rows = [json.dumps(row) for row in found["history"]]
        return RecordedHistory(_instance_in(found, len(rows)), rows)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        OSError,
        EOFError,
        zlib.error,
    ) as error:
        raise PayloadError(
            f"this is no history that export_history() gave: {type(error).__name__}: {error}"
        ) from error


def _instance_in(document: Mapping[str, Any], sequence: int) -> InstanceRow:
    return InstanceRow(
        id=str(document["instance_id"]),
        execution=str(document["execution_id"]),
        name=str(document["name"]),
        version=document["version"],
        status=RuntimeStatus.RUNNING,
        sequence=sequence,
        parent_id=document.get("parent_id"),
        parent_execution=None,
        parent_command=None,
        parent_attempt=None,
        root_id=None,
        queue=None,
        crashes=0,
        input=None,
        canvas=document.get("options"),
    )
