"""Activities: Celery tasks that an orchestration runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..canvas import MAPS, NOT_SENT
from ..commands import Command, shown_in
from ..history import Event, EventKind
from ..names import checked_name
from ..options import REFUSED_BY_ACTIVITIES, refuse
from ..permits import Permit, call_permits
from ..ports import Host
from .call import Call, CallKind, CallOptions, CallsPlan

__all__ = ["Activities", "ActivityCall", "CancelActivity", "ScheduleActivity"]


@dataclass(slots=True)
class ScheduleActivity(Command):
    """Run a Celery task. Times are microseconds."""

    confirmed_by: ClassVar[str] = EventKind.ACTIVITY_SCHEDULED
    takes_arguments: ClassVar[bool] = True
    #: Which attempt of the call this is, from 1.
    attempt: int
    #: The name of the task.
    task: str
    #: ``[args, kwargs]``, encoded.
    input: str
    #: The same as values, as they are sent.
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    #: Celery's options for the message; those that the engine reads itself are left out.
    options: Mapping[str, Any]
    #: Of this attempt, from its scheduling; None has no limit, as in the next two.
    timeout: int | None = None
    #: Until a worker is first seen to run it.
    start_timeout: int | None = None
    #: Between two heartbeats.
    heartbeat_timeout: int | None = None
    #: The window that it belongs to; None for none.
    window: int | None = None
    #: Whether it waits for a slot of its window.
    is_held: bool = False
    #: A name for people; None if it has none.
    title: str | None = None
    #: The rewind that has it done again after a saga had undone it; 0 for none.
    redo: int = 0
    #: Tells its worker whether a failure is followed by another attempt; None if it need not know.
    terms: Mapping[str, Any] | None = None
    #: Whether it may add members to the chord that it is in.
    is_in_chord: bool = False
    #: The slots that it needs before it is sent, by the limits of the call itself.
    permits: tuple[Permit, ...] = ()
    #: The task that does the work, of a chunk the one that is mapped.
    subject: str = ""

    @property
    def label(self) -> str:
        """Return the task's name."""
        return self.task

    def _attempt(self) -> int:
        return self.attempt

    def _payload(self) -> str | None:
        return self.input

    def _facts(self) -> dict[str, Any] | None:
        return {**({"label": self.title} if self.title else {}), **shown_in(self.options)} or None


@dataclass(slots=True)
class CancelActivity(Command):
    """The activity is no longer wanted: it does not start, and its outcome is dropped."""

    confirmed_by: ClassVar[str] = EventKind.ACTIVITY_CANCELED
    is_withdrawal: ClassVar[bool] = True
    #: Which attempt of the call this is, from 1.
    attempt: int
    #: The window in which it may have a slot, which is free then; None for none.
    window: int | None = None

    def _attempt(self) -> int:
        return self.attempt


class ActivityCall(Call):
    """A Celery task to run."""

    is_activity = True

    def __init__(self, host: Host, signature: Mapping[str, Any], options: CallOptions) -> None:
        super().__init__(host, options)
        self.task: str = checked_name(signature["task"], "a task name")
        args, kwargs = tuple(signature.get("args") or ()), dict(signature.get("kwargs") or {})
        self.input: str
        self.args: tuple[Any, ...]
        self.kwargs: dict[str, Any]
        self.input, self.args, self.kwargs = host.codec.encode_call(self.task, args, kwargs)
        given = signature.get("options") or {}
        refuse(given, REFUSED_BY_ACTIVITIES, f"activity {self.task}")
        self.task_options: dict[str, Any] = {
            name: value for name, value in given.items() if name not in NOT_SENT
        }
        if self.task in MAPS:  # sent where the task goes that is mapped, as Celery does
            self.task_options.setdefault("route_name", str(self.kwargs["task"]["task"]))
        self.is_held: bool = options.is_held
        #: The slots that each attempt needs, by the limits of the call itself.
        self.permits: tuple[Permit, ...] = ()
        if options.limits:
            self.permits = call_permits(
                options.limits,
                self.subject,
                self.args,
                self.kwargs,
                lambda: host.types.signature_of(self.task),
                is_known=host.is_replaying,
            )
        #: The number of the rewind since which it is done again, after a saga had undone it.
        self.redo: int = 0

    @property
    def title(self) -> str:
        """The task's name."""
        return self.task

    @property
    def subject(self) -> str:
        """The task that does the work: of a chunk, the one that is mapped."""
        return str(self.kwargs["task"]["task"]) if self.task in MAPS else self.task

    def _schedule_command(self) -> Command:
        chosen = self.options
        return ScheduleActivity(
            self.command,
            self.attempt,
            self.task,
            self.input,
            self.args,
            self.kwargs,
            self.task_options,
            timeout=chosen.timeout,
            start_timeout=chosen.start_timeout_of(self.attempt),
            heartbeat_timeout=chosen.heartbeat_timeout,
            window=chosen.window,
            is_held=self.is_held,
            title=chosen.label,
            redo=self.redo,
            terms=self._terms(),
            is_in_chord=chosen.chord is not None,
            permits=self.permits,
            subject=self.subject,
        )

    def _terms(self) -> dict[str, Any] | None:
        """Return what tells a worker whether a failure is the last one: ``link_error`` is called
        with that alone.
        """
        policy = self.options.retry
        if policy is None or not self.task_options.get("link_error"):
            return None
        return policy.terms(self.attempt - self._attempts_before, self._first_at, self._rng())

    def cancel_command(self) -> Command:
        """Return the command that takes the current attempt back."""
        return CancelActivity(self.command, self.attempt, self.options.window)

    def failed(self, error: BaseException) -> None:
        """Try again, suspend, or resolve the call with the error.

        It keeps its slot in a window meanwhile.
        """
        self.is_held = False
        super().failed(error)

    def reissue(self, plan: CallsPlan) -> None:
        """Ask again, in the slot that it has in its window; what was undone is done again."""
        if self.command in plan.undone:
            self.redo = plan.renewal
        if (window := self.options.window) is not None:
            plan.placed[window] = plan.placed.get(window, 0) + 1
            self.is_held = plan.placed[window] > self.options.width
        super().reissue(plan)

    def _resolve(self, error: BaseException) -> None:
        self._free_slot()
        super()._resolve(error)

    def _free_slot(self) -> None:
        if self.options.window is not None and not self.is_held:
            self._calls.release_slot(self.options.window)


class Activities(CallKind):
    """How outcomes of activities reach their calls."""

    name = "activity"
    commands: ClassVar[tuple[type[Command], ...]] = (ScheduleActivity, CancelActivity)
    inputs: ClassVar[Mapping[str, type[Command] | None]] = {
        EventKind.ACTIVITY_COMPLETED: ScheduleActivity,
        EventKind.ACTIVITY_FAILED: ScheduleActivity,
        EventKind.ACTIVITY_DEFERRED: None,
    }
    lapsing: ClassVar[frozenset[str]] = frozenset({EventKind.ACTIVITY_DEFERRED})
    completed: ClassVar[str] = EventKind.ACTIVITY_COMPLETED
    failed: ClassVar[str] = EventKind.ACTIVITY_FAILED

    def resolve(self, event: Event) -> None:
        """Give the outcome to its call, which waits on for one that is deferred."""
        if event.kind is not EventKind.ACTIVITY_DEFERRED:
            super().resolve(event)
