"""One leaf of ``ctx.call``: an activity or a sub-orchestration, over all its attempts.

A call keeps one command number for its whole life. An attempt that fails is tried again after a durable timer, as the
retry policy says; the policy reads history's clock and dice seeded from history, so that a replay decides alike.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ActivityTimeout, OrchestrationFailed
from .commands import CancelActivity, CancelChild, Command, ReviveChild, ScheduleActivity, StartChild
from .retry import RetryPolicy
from .waits import CallFuture

if TYPE_CHECKING:
    from .replay import Execution

__all__ = ["ActivityCall", "Call", "CallOptions", "ChildCall"]


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What ``ctx.call`` was given beside the signature; times are microseconds."""

    retry: RetryPolicy | None = None
    timeout: int | None = None
    start_timeout: int | None = None
    heartbeat_timeout: int | None = None
    suspend_on_exhausted: bool = False
    label: str | None = None
    window: int | None = None
    width: int = 0
    is_held: bool = False
    trail: list[int] | None = None


class Call(ABC):
    """The common part of both kinds of call."""

    is_activity: bool

    def __init__(self, execution: Execution, options: CallOptions) -> None:
        self.execution = execution
        self.options = options
        self.command = execution.next_command()
        self.attempt = 0
        self.future = CallFuture(
            self.command, loop=execution.loop, is_activity=self.is_activity, take_back=execution.take_back
        )
        if options.trail is not None:
            options.trail.append(self.command)
        self._first_at = execution.now
        self._attempts_before = 0
        self._timer: int | None = None
        self._is_out = False

    @abstractmethod
    def _schedule_command(self) -> Command:
        """Return the command that starts the current attempt."""

    @abstractmethod
    def cancel_command(self) -> Command:
        """Return the command that takes the current attempt back."""

    def schedule(self, due: int | None = None) -> None:
        """Ask for the next attempt, now or once ``due`` has come."""
        if due is not None and due > self.execution.now:
            self._timer = self.execution.create_timer(due, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._timer = None
        self.attempt += 1
        self._is_out = True
        self.execution.ask(self._schedule_command())

    def expects(self, attempt: int) -> bool:
        """Tell whether an outcome of ``attempt`` is still wanted."""
        return self._is_out and attempt == self.attempt and not self.future.done()

    def completed(self, value: Any) -> None:
        """Resolve the call with a value."""
        self._is_out = False
        self.execution.forget_call(self)
        self.future.set_result(value)

    def failed(self, error: BaseException) -> None:
        """Try again, suspend, or resolve the call with the error."""
        self._is_out = False
        policy = self.options.retry
        if policy is not None:
            dice = random.Random(f"{self.execution.seed}:{self.command}:{self.attempt}").random  # noqa: S311
            attempts = self.attempt - self._attempts_before
            delay = policy.delay(attempts, error, self.execution.now - self._first_at, dice)
            if delay is not None:
                return self.schedule(self.execution.now + delay)
        if self.options.suspend_on_exhausted:
            return self.execution.suspend_for(self, error)
        self._resolve(error)

    def _resolve(self, error: BaseException) -> None:
        self.execution.forget_call(self)
        self.execution.note_failure(self.command, error)
        self.future.set_exception(error)

    def start_over(self) -> None:
        """Try again with a fresh count, after the instance was resumed."""
        self._attempts_before = self.attempt
        self._first_at = self.execution.now
        self.schedule()

    def skip_attempts(self, used: int) -> None:
        """Pass over attempts of before that were another call's; they do not count."""
        skipped = max(0, used - self.attempt)
        self.attempt += skipped
        self._attempts_before += skipped

    def renew(self) -> None:
        """Ask again for what was under way, as an attempt of its own: nothing of it is in the store."""
        if self._is_out:
            self.start_over()

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """Resolve the call with an outcome from outside, whatever is under way for it."""
        self.take_back()
        if error is not None:
            self._resolve(error)
        else:
            self.completed(value)

    def take_back(self) -> None:
        """Withdraw whatever is under way for this call."""
        if self._timer is not None:
            self.execution.cancel_timer(self._timer)
            self._timer = None
        elif self._is_out:
            self._is_out = False
            self.execution.withdraw(self.command, self.cancel_command())


class ActivityCall(Call):
    """A Celery task to run."""

    is_activity = True

    def __init__(self, execution: Execution, signature: Mapping[str, Any], options: CallOptions) -> None:
        super().__init__(execution, options)
        self.task = checked_name(signature["task"], "a task name")
        checked_name((signature.get("options") or {}).get("queue") or "default", "a queue name")
        self.args = tuple(signature.get("args") or ())
        self.kwargs = dict(signature.get("kwargs") or {})
        self.task_options = {
            name: value for name, value in (signature.get("options") or {}).items() if name not in _NOT_SENT
        }
        if self.task in _MAPS:  # sent where the task goes that is mapped, as Celery does
            self.task_options.setdefault("route_name", str(self.kwargs["task"]["task"]))
        self.input = execution.codec.encode([list(self.args), self.kwargs])
        self.is_held = options.is_held
        #: The number of the rewind since which it is done again, after a saga had undone it.
        self.redo = 0

    def _schedule_command(self) -> Command:
        chosen = self.options
        return ScheduleActivity(
            self.command, self.attempt, self.task, self.input, self.args, self.kwargs, self.task_options,
            timeout=chosen.timeout, start_timeout=chosen.start_timeout, heartbeat_timeout=chosen.heartbeat_timeout,
            window=chosen.window, is_held=self.is_held, title=chosen.label, redo=self.redo,
        )  # fmt: skip

    def cancel_command(self) -> Command:
        return CancelActivity(self.command, self.attempt)

    def failed(self, error: BaseException) -> None:
        """Try again, suspend, or resolve the call with the error; it keeps its slot in a window meanwhile."""
        self.is_held = False
        super().failed(error)

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """Resolve the call with an outcome from outside."""
        if self.options.window is not None and error is None:
            self.execution.release_slot(self.options.window)
        super().settle(value, error)

    def _resolve(self, error: BaseException) -> None:
        if self.options.window is not None:
            self.execution.release_slot(self.options.window)
        super()._resolve(error)


_DELAYS = frozenset({"countdown", "eta"})
_CALLBACKS = frozenset({"link", "link_error"})
_IDENTITY = frozenset({"task_id", "root_id", "parent_id", "chord", "group_id", "group_index"})
_NOT_SENT = _IDENTITY | _DELAYS | {"expires"}
_MAPS = ("celery.map", "celery.starmap")


class ChildCall(Call):
    """A sub-orchestration to run; each attempt is an instance of its own."""

    is_activity = False

    def __init__(self, execution: Execution, signature: Mapping[str, Any], options: CallOptions) -> None:
        super().__init__(execution, options)
        self.name = checked_name(signature["task"], "an orchestrator name")
        task_options = dict(signature.get("options") or {})
        named = task_options.pop("task_id", None)
        self.base_id = checked_name(named, "an instance id", 150) if named else execution.child_id(self.command)
        self.task_options = {name: value for name, value in task_options.items() if name not in _NOT_SENT}
        self.input = execution.codec.encode([list(signature.get("args") or ()), dict(signature.get("kwargs") or {})])
        self._deadline: int | None = None

    @property
    def child_id(self) -> str:
        """Return the id of the current attempt's instance."""
        return self.base_id if self.attempt == 1 else f"{self.base_id}~{self.attempt}"

    def _set_deadline(self) -> None:
        if self.options.timeout is not None:
            due = self.execution.now + self.options.timeout
            self._deadline = self.execution.create_timer(due, self._ran_out)

    def _schedule_command(self) -> Command:
        self._set_deadline()
        return StartChild(
            self.command, self.attempt, self.name, self.child_id, self.input, self.task_options, self.options.label
        )

    def cancel_command(self) -> Command:
        return CancelChild(self.command, self.attempt, self.child_id)

    def _ran_out(self) -> None:
        self._deadline = None
        self.execution.ask(self.cancel_command())
        self.failed(
            ActivityTimeout(
                f"sub-orchestration {self.child_id!r} ({self.name}) did not finish in time and was canceled",
                instance_id=self.child_id, kind="timeout",
            )
        )  # fmt: skip

    def renew(self, *, is_kept: bool = False, rewinds: bool = False) -> None:
        """Start another child in the place of the one before, or (``is_kept``) wait for that one again."""
        if not self._is_out:
            return
        self._drop_deadline()
        if not is_kept:
            self.start_over()
            return
        self._set_deadline()
        self.execution.ask(ReviveChild(self.command, self.attempt, self.child_id, rewinds))

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self.execution.cancel_timer(self._deadline)
            self._deadline = None

    def completed(self, value: Any) -> None:
        self._drop_deadline()
        super().completed(value)

    def failed(self, error: BaseException) -> None:
        self._drop_deadline()
        super().failed(error)

    def take_back(self) -> None:
        self._drop_deadline()
        super().take_back()


def checked_name(name: Any, what: str, limit: int = 200) -> str:
    """Return a name that every store can keep.

    Raises:
        ValueError: it is empty, too long, contains NUL or half a character.
    """
    text = str(getattr(name, "name", name))
    is_odd = not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)
    if not text or len(text) > limit or "\x00" in text or is_odd:
        raise ValueError(f"{what} has 1 to {limit} characters and no NUL; {text[:40]!r} does not fit")
    return text


def revoked_child(child_id: str, status: str, reason: str | None) -> OrchestrationFailed:
    """Return what a parent sees of a child that was canceled or terminated."""
    because = f": {reason}" if reason else ""
    return OrchestrationFailed(
        f"orchestration {child_id!r} ended as {status}{because}", instance_id=child_id, status=status, reason=reason
    )


# -- the shapes of a canvas -----------------------------------------------------------------------------------------------


def with_first(
    signature: Mapping[str, Any], given: Sequence[Any], named: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Return a signature that takes ``given`` before its own arguments, and ``named`` over its own, whatever its shape."""
    if not (given or named) or signature.get("immutable"):
        return signature
    shape, parts = signature.get("subtask_type"), signature.get("kwargs") or {}
    if shape == "group":
        return {
            **signature,
            "kwargs": {**parts, "tasks": [with_first(member, given, named) for member in parts["tasks"]]},
        }
    args = (*given, *(signature.get("args") or ()))
    if shape == "chain":
        steps = steps_of({**signature, "args": ()})
        return {**signature, "args": (), "options": {}, "kwargs": {
            **parts, "tasks": [*(with_first(step, args, named) for step in steps[:1]), *steps[1:]]}}  # fmt: skip
    inner = parts.get("kwargs") or {}
    kwargs = {**parts, "kwargs": {**inner, **(named or {})}} if shape == "chord" else {**parts, **(named or {})}
    return {**signature, "args": args, "kwargs": kwargs}


def with_options(signature: Mapping[str, Any], options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a signature with the options that were set on the whole it belongs to; its own callbacks stay."""
    own = dict(signature.get("options") or {})
    for name, value in options.items():
        if name in _CALLBACKS:
            own[name] = [*_listed(own.get(name)), *_listed(value)]
        elif name not in _IDENTITY:
            own[name] = value
    return {**signature, "options": own}


def members_of(group: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give the members of a group, with its options; those of a group within it stand in its place, as in Celery."""
    chosen = group.get("options") or {}
    for member in group["kwargs"]["tasks"]:
        if _is_empty(member, "chain"):
            continue
        given = with_options(member, chosen)
        if given.get("subtask_type") == "group":
            yield from members_of(given)
        else:
            yield given


def steps_of(chain: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the steps of a chain as Celery's worker sees them, with the chain's arguments and options.

    Chains within it are spliced in, a group of one is its member, and an empty group is passed over unless there is nothing
    else. Callbacks go where the chain's own end or failure is; any other option is for the first step.
    """
    steps: list[Mapping[str, Any]] = []
    for task in chain["kwargs"]["tasks"]:
        step = _sole_member(task)
        steps += steps_of(step) if step.get("subtask_type") == "chain" else [step]
    steps = [step for step in steps if not _is_empty(step, "group")] or steps[:1]
    options = chain.get("options") or {}
    if steps:
        first = {name: value for name, value in options.items() if name not in _CALLBACKS}
        steps[0] = with_options(with_first(steps[0], chain.get("args") or ()), first)
        steps[-1] = with_options(steps[-1], _only(options, "link"))
        steps = [with_options(step, _only(options, "link_error")) for step in steps]
    return steps


def parts_of(chord: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """Return the members of a chord's header and its body, with the chord's arguments and options.

    A delay is for the header and ``link`` for the body. ``link_error`` of the body is for the header too: Celery calls it
    when a member fails.
    """
    parts, options = chord["kwargs"], chord.get("options") or {}
    header = parts["header"] if isinstance(parts["header"], Mapping) else {"kwargs": {"tasks": parts["header"]}}
    body = with_options(parts["body"], {name: value for name, value in options.items() if name not in _DELAYS})
    chosen = {name: value for name, value in options.items() if name not in _CALLBACKS}
    whole = with_options(header, {**chosen, **_only(body["options"], "link_error")})
    given, named = chord.get("args") or (), parts.get("kwargs")
    return [with_first(member, given, named) for member in members_of(whole)], body


def chunks_of(chunks: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return one ``starmap`` for each chunk, as Celery makes them."""
    parts = chunks["kwargs"]
    items, size = list(parts["it"]), int(parts["n"])
    slices = [items[start : start + size] for start in range(0, len(items), size)]
    maps = [{"task": "celery.starmap", "kwargs": {"task": parts["task"], "it": part}} for part in slices]
    return [with_options(each, chunks.get("options") or {}) for each in maps]


def _sole_member(signature: Mapping[str, Any]) -> Mapping[str, Any]:
    if signature.get("subtask_type") != "group":
        return signature
    members = list(signature["kwargs"]["tasks"])
    return with_options(members[0], signature.get("options") or {}) if len(members) == 1 else signature


def _is_empty(signature: Mapping[str, Any], shape: str) -> bool:
    return signature.get("subtask_type") == shape and not signature["kwargs"]["tasks"]


def _only(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: options[name]} if options.get(name) else {}


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
