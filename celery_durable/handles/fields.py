"""What the store knows of an orchestration, as attributes of its handle."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from ..core.plain_task import shown_version
from ..core.times import EPOCH
from ..engine.propagation import context_of

if TYPE_CHECKING:
    from ..core.status import RuntimeStatus
    from ..engine.listing import InstanceRecord
    from ..engine.runtime import Runtime

__all__ = ["StatusFields", "json_output_of", "record_of", "runtime_of_handle"]


class StatusFields:
    """Status fields: read from the store at first use, and again by ``refresh()``."""

    if TYPE_CHECKING:
        id: str
        app: Any

    _record: InstanceRecord | None

    @property
    def _runtime(self) -> Runtime:
        runtime: Runtime = self.app.durable.runtime
        return runtime

    @property
    def _known(self) -> InstanceRecord:
        if self._record is None:
            self.refresh()
        assert self._record is not None
        return self._record

    def _full(self) -> InstanceRecord:
        if self._known.input is None:
            self.refresh()
        return self._known

    def refresh(self) -> Self:
        """Read the status fields again.

        Raises:
            InstanceNotFound: there is no such orchestration (any more).

        Example:
            >>> run.refresh().custom_status
        """
        self._record = self._runtime.client.fetch(self.id)
        return self

    @property
    def name(self) -> str:
        """The orchestrator's task name."""
        return self._known.name

    @property
    def version(self) -> str | None:
        """The version of the orchestrator that it started with."""
        return shown_version(self._known.version)

    @property
    def runtime_status(self) -> RuntimeStatus:
        """Where it stands."""
        return self._known.status

    @property
    def input(self) -> dict[str, Any]:
        """The arguments of the current execution."""
        args, kwargs = self._runtime.codec.decode(self._full().input or "[[], {}]")
        return {"args": args, "kwargs": kwargs}

    @property
    def context(self) -> Mapping[str, Any]:
        """What was captured at its start: message headers (``durable_propagate``) and values of
        propagators (``durable.propagate``), by name; read-only.
        """
        return context_of(self._runtime.codec, self._full().canvas)

    @property
    def output(self) -> Any:
        """What the orchestrator returned; None before that.

        It has the type that the orchestrator's annotation names, where its code is known.

        Raises:
            PayloadError: it does not fit that type any more.
        """
        record, value = self._full(), json_output_of(self)
        definition = self._runtime.registry.get(record.name, record.version)
        if definition is None or record.output is None:
            return value
        return self._runtime.codec.types_of(definition.function).result(value)

    @property
    def failure(self) -> BaseException | None:
        """The exception that the orchestrator raised; None otherwise."""
        payload = self._full().failure
        return None if payload is None else self._runtime.codec.decode_failure(payload)[0]

    @property
    def custom_status(self) -> Any:
        """What ``ctx.set_status`` last said."""
        payload = self._full().custom_status
        return None if payload is None else self._runtime.codec.decode(payload)

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, as they were set at its start, and since then by the code or from outside."""
        return dict(self._known.tags)

    @property
    def parent_id(self) -> str | None:
        """The orchestration that this one is a child of."""
        return self._known.parent_id

    @property
    def reason(self) -> str | None:
        """Why it is in its status, in words."""
        return self._known.reason

    @property
    def created_at(self) -> datetime:
        """When it was asked for."""
        return _moment(self._known.created_at) or EPOCH

    @property
    def started_at(self) -> datetime | None:
        """When its first turn was committed."""
        return _moment(self._known.started_at)

    @property
    def updated_at(self) -> datetime:
        """When its last turn was committed."""
        return _moment(self._known.updated_at) or EPOCH

    @property
    def completed_at(self) -> datetime | None:
        """When it ended."""
        return _moment(self._known.completed_at)

    @property
    def deadline(self) -> datetime | None:
        """When its time-out is over; None if it has none, has not begun, or has ended."""
        return _moment(self._full().deadline)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else EPOCH + timedelta(microseconds=micros)


def json_output_of(run: StatusFields) -> Any:
    """Return what the orchestrator returned as it is stored, without its type; None before that."""
    payload = run._full().output
    return None if payload is None else run._runtime.codec.decode(payload)


def record_of(run: StatusFields) -> InstanceRecord:
    """Return the row that a handle has read; it reads it first if it has none."""
    return run._known


def runtime_of_handle(run: StatusFields) -> Runtime:
    """Return the engine that a handle works with."""
    return run._runtime
