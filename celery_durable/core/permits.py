"""What an attempt of an activity needs before it is sent: slots of limits.

A *permit* is one slot that an attempt needs, with the value of its key found already. A *task
limit* is what a task declares, in the form in which the store keeps it for processes that do not
have the task's code.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .limits import Limit, Rate, scope_of

__all__ = [
    "Argument",
    "Permit",
    "TaskLimit",
    "argument_of",
    "call_permits",
    "dump_limits",
    "load_limits",
    "merged",
    "task_limit",
]


class Permit(NamedTuple):
    """A slot that an attempt needs; the first four fields are those of any slot."""

    #: What names the limit in the store, whatever its number is.
    label: str
    #: The value of its key; None has none.
    key: str | None
    most: int
    #: Microseconds for which a sent attempt counts; None is until its outcome is recorded.
    period: int | None
    #: What people know the limit by: its name, or the task's.
    name: str
    #: Whether the task declares it: then the number that is declared now holds.
    is_declared: bool = False

    @property
    def scope(self) -> str:
        """Return what names the slots of the limit for this value of its key."""
        return scope_of(self.label, self.key)


class Argument(NamedTuple):
    """An argument of a task, as it is found in a call."""

    name: str
    #: Its position; None if it is given by name alone.
    at: int | None = None
    #: What it is if a call leaves it out.
    default: str | None = None

    def of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """Return its value in a call, as text; None is not limited."""
        if self.name in kwargs:
            value = kwargs[self.name]
        elif self.at is not None and self.at < len(args):
            value = args[self.at]
        else:
            return self.default
        return None if value is None else str(value)


def argument_of(signature: inspect.Signature, name: str) -> Argument | None:
    """Return an argument of a task; None if the task lacks it."""
    at = 0
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            at = -1
        elif parameter.kind is parameter.VAR_KEYWORD:
            return Argument(name)
        elif parameter.name == name:
            default = parameter.default
            is_left_out = default is parameter.empty or default is None
            is_named = at < 0 or parameter.kind is parameter.KEYWORD_ONLY
            return Argument(name, None if is_named else at, None if is_left_out else str(default))
        elif at >= 0:
            at += 1
    return None


class TaskLimit(NamedTuple):
    """A limit that a task declares."""

    most: int
    #: Microseconds; None is a limit of what runs at a time.
    period: int | None
    #: None is the task's own.
    name: str | None
    #: The argument that is its key; None has none.
    key: Argument | None

    def label(self, task: str) -> str:
        """Return what names it in the store."""
        return _label(task, self.name, self.period, None if self.key is None else self.key.name)

    def permit(self, task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Permit | None:
        """Return the slot that a call needs; None if it is not limited."""
        key = None if self.key is None else self.key.of(args, kwargs)
        if self.key is not None and key is None:
            return None
        return Permit(self.label(task), key, self.most, self.period, self.name or task, True)


def task_limit(limit: Limit | Rate, key: Argument | None) -> TaskLimit:
    """Return the form that the store keeps of a limit."""
    return TaskLimit(limit.most, limit.period, limit.name, key)


def dump_limits(limits: Iterable[TaskLimit]) -> str:
    """Return what the store keeps of a task's limits."""
    return json.dumps([list(limit) for limit in limits])


def load_limits(text: str | None) -> tuple[TaskLimit, ...]:
    """Return what the store keeps of a task's limits.

    Raises:
        ValueError: it is damaged, or of a later release.
        TypeError: the same.
    """
    return tuple(
        TaskLimit(int(most), period, name, None if key is None else Argument(*key))
        for most, period, name, key in json.loads(text or "[]")
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a task, as keys are computed from it."""

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: Of the task; None where its code is not known.
    signature: inspect.Signature | None
    #: Whether the call is in history already: it was checked then.
    is_known: bool

    def key(self, name: str) -> str | None:
        if self.signature is not None:
            argument = argument_of(self.signature, name)
            if argument is None:
                raise ValueError(f"limit: task {self.task!r} has no argument {name!r}")
            return argument.of(self.args, self.kwargs)
        if name not in self.kwargs and not self.is_known:
            raise ValueError(
                f"limit: the code of task {self.task!r} is not known here: give the argument"
                f" {name!r} by its name, or let key be a function of the arguments"
            )
        return Argument(name).of(self.args, self.kwargs)


def call_permits(
    limits: Iterable[Limit | Rate],
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    signature: Callable[[], inspect.Signature | None],
    *,
    is_known: bool,
) -> tuple[Permit, ...]:
    """Return the slots that a call needs by the limits that it was given itself.

    Args:
        limits: given to ``ctx.call`` or ``ctx.map``.
        task: its name.
        args: of the call, as they are sent.
        kwargs: the same.
        signature: gives the task's, None where its code is not known.
        is_known: whether history has the call.

    Raises:
        ValueError: the task lacks the argument that a key names.
        Exception: whatever a key's function raises.
    """
    call = _Call(task, args, kwargs, signature(), is_known)
    return tuple(permit for limit in limits if (permit := _call_permit(limit, call)) is not None)


def _call_permit(limit: Limit | Rate, call: _Call) -> Permit | None:
    given, key, by = limit.key, None, None
    if callable(given):
        value = given(*call.args, **call.kwargs)
        key = None if value is None else str(value)
        by = f"{getattr(given, '__qualname__', type(given).__qualname__)}()"
    elif given is not None:
        key, by = call.key(given), given
    if given is not None and key is None:
        return None
    label = _label(call.task, limit.name, limit.period, by)
    return Permit(label, key, limit.most, limit.period, limit.name or call.task)


def _label(task: str, name: str | None, period: int | None, by: str | None) -> str:
    """Return what names a limit in the store: of a named one, all values of keys are its own,
    however they are computed.
    """
    kind = "running" if period is None else f"sends/{period}"
    if name is None:
        return json.dumps([kind, "task", task, by])
    return json.dumps([kind, "name", name, by is not None])


def merged(permits: Iterable[Permit]) -> tuple[Permit, ...]:
    """Return each slot once: of two numbers, the smaller one."""
    found: dict[str, Permit] = {}
    for permit in permits:
        other = found.get(permit.scope, permit)
        most, is_declared = min(permit.most, other.most), permit.is_declared and other.is_declared
        found[permit.scope] = permit._replace(most=most, is_declared=is_declared)
    return tuple(found.values())
