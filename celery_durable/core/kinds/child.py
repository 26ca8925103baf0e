"""Sub-orchestrations: each attempt of a call is an instance of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from ..._errors import ActivityTimeout, OrchestrationFailed
from ..canvas import NOT_SENT
from ..commands import Command, shown_in
from ..history import Event, EventKind
from ..names import check_new_id, checked_name, next_id
from ..options import REFUSED_BY_STARTS, refuse
from ..ports import ExecutionInfo, Host
from .call import Call, CallKind, CallOptions, CallsPlan
from .timer import Timers

__all__ = [
    "CancelChild",
    "ChildCall",
    "Children",
    "ReattachChild",
    "StartChild",
    "child_id_of",
    "revoked_child",
]


@dataclass(slots=True)
class StartChild(Command):
    """Start a sub-orchestration."""

    confirmed_by: ClassVar[str] = EventKind.CHILD_STARTED
    takes_arguments: ClassVar[bool] = True
    #: Which attempt of the call this is, from 1.
    attempt: int
    #: The name of its orchestrator.
    name: str
    #: The id of its instance.
    child_id: str
    #: ``[args, kwargs]``, encoded.
    input: str
    #: Celery's options for its messages.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: A name for people; None if it has none.
    title: str | None = None
    #: When it is canceled if it has not begun, microseconds; None for never.
    expires: int | None = None

    @property
    def label(self) -> str:
        """Return the orchestrator's name."""
        return self.name

    def _attempt(self) -> int:
        return self.attempt

    def _payload(self) -> str | None:
        return self.input

    def _facts(self) -> dict[str, Any] | None:
        return {
            "id": self.child_id,
            **({"label": self.title} if self.title else {}),
            **shown_in(self.options),
        }


@dataclass(slots=True)
class CancelChild(Command):
    """Ask a sub-orchestration to cancel; its outcome is dropped."""

    confirmed_by: ClassVar[str] = EventKind.CHILD_CANCELED
    is_withdrawal: ClassVar[bool] = True
    is_one_shot: ClassVar[bool] = True
    #: Which attempt of the call this is, from 1.
    attempt: int
    #: The id of its instance.
    child_id: str

    def _attempt(self) -> int:
        return self.attempt


@dataclass(slots=True)
class ReattachChild(Command):
    """Ask a sub-orchestration that began before a rewind for its outcome."""

    confirmed_by: ClassVar[str] = EventKind.CHILD_REVIVED
    #: Which attempt of the call this is, from 1.
    attempt: int
    #: The id of its instance.
    child_id: str
    #: Whether it is to rewind if it has failed.
    rewinds: bool

    def _attempt(self) -> int:
        return self.attempt

    def _facts(self) -> dict[str, Any] | None:
        return {"id": self.child_id, "rewinds": self.rewinds}


class ChildCall(Call):
    """A sub-orchestration to run; each attempt is an instance of its own."""

    is_activity = False

    def __init__(self, host: Host, signature: Mapping[str, Any], options: CallOptions) -> None:
        super().__init__(host, options)
        self.name: str = checked_name(signature["task"], "an orchestrator name")
        task_options = dict(signature.get("options") or {})
        named = task_options.pop("task_id", None)
        refuse(task_options, REFUSED_BY_STARTS, f"sub-orchestration {self.name}")
        if options.heartbeat_timeout is not None:
            raise TypeError(
                f"sub-orchestration {self.name} takes no heartbeat_timeout=: only an activity has a"
                " heartbeat"
            )
        self.base_id: str = (
            child_id_of(host.info, self.command)
            if named is None
            else check_new_id(str(named) if isinstance(named, (UUID, int)) else named)
        )
        self.task_options: dict[Any, Any] = {
            name: value for name, value in task_options.items() if name not in NOT_SENT
        }
        self.input: str = host.codec.encode(
            [list(signature.get("args") or ()), dict(signature.get("kwargs") or {})]
        )
        self._deadline: int | None = None

    @property
    def title(self) -> str:
        """The orchestrator's name."""
        return self.name

    @property
    def child_id(self) -> str:
        """Return the id of the current attempt's instance."""
        return self.base_id if self.attempt == 1 else next_id(self.base_id, self.attempt)

    def _set_deadline(self) -> None:
        if self.options.timeout is not None:
            due = self.host.now + self.options.timeout
            self._deadline = self.host.of(Timers).create(due, self._ran_out)

    def _schedule_command(self) -> Command:
        self._set_deadline()
        within = self.options.start_timeout
        return StartChild(
            self.command,
            self.attempt,
            self.name,
            self.child_id,
            self.input,
            self.task_options,
            self.options.label,
            None if within is None else self.host.now + within,
        )

    def cancel_command(self) -> Command:
        """Return the command that asks the child to cancel."""
        return CancelChild(self.command, self.attempt, self.child_id)

    def _ran_out(self) -> None:
        self._deadline = None
        self.host.ask(self.cancel_command())
        self.failed(
            ActivityTimeout(
                f"sub-orchestration {self.child_id!r} ({self.name}) did not finish in time and was"
                " canceled",
                instance_id=self.child_id,
                kind="timeout",
            )
        )

    def reissue(self, plan: CallsPlan) -> None:
        """Start another child in the place of the one before, or wait for that one again."""
        if self.command in plan.left or not self._is_out:
            return
        self._drop_deadline()
        if (rewinds := plan.kept.get(self.command)) is None:
            self.start_over()
            return
        self._set_deadline()
        self.host.ask(ReattachChild(self.command, self.attempt, self.child_id, rewinds))

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self.host.of(Timers).cancel(self._deadline)
            self._deadline = None

    def completed(self, value: Any) -> None:
        """Resolve the call with a value."""
        self._drop_deadline()
        super().completed(value)

    def failed(self, error: BaseException) -> None:
        """Try again, suspend, or resolve the call with the error."""
        self._drop_deadline()
        super().failed(error)

    def take_back(self) -> None:
        """Withdraw whatever is under way for this call."""
        self._drop_deadline()
        super().take_back()


class Children(CallKind):
    """How outcomes of sub-orchestrations reach their calls."""

    name = "sub-orchestration"
    row = "child"
    commands: ClassVar[tuple[type[Command], ...]] = (StartChild, CancelChild, ReattachChild)
    inputs: ClassVar[Mapping[str, type[Command] | None]] = {
        EventKind.CHILD_COMPLETED: StartChild,
        EventKind.CHILD_FAILED: StartChild,
    }
    completed: ClassVar[str] = EventKind.CHILD_COMPLETED
    failed: ClassVar[str] = EventKind.CHILD_FAILED

    @classmethod
    def child_of(cls, event: Event) -> str:
        """Return the id of the child's instance; the event that asked for it has it."""
        return str((event.facts or {}).get("id") or "")


def child_id_of(info: ExecutionInfo, number: int) -> str:
    """Return the id of an unnamed child: legible where it fits, always the same."""
    suffix = f":{info.execution_id[:8]}:{number}"
    base = info.instance_id
    if len(base) + len(suffix) > 140:
        base = base[:80] + "~" + hashlib.sha256(base.encode()).hexdigest()[:16]
    return base + suffix


def revoked_child(child_id: str, status: str, reason: str | None) -> OrchestrationFailed:
    """Return what a parent sees of a child that was canceled or terminated."""
    because = f": {reason}" if reason else ""
    return OrchestrationFailed(
        f"orchestration {child_id!r} ended as {status}{because}",
        instance_id=child_id,
        status=status,
        reason=reason,
    )
