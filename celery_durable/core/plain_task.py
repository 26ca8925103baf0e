"""A plain task as an orchestration of one activity: what runs it, and what is kept of its options.

Its instance has the task's name, and ``TASK`` in the place of a version. Its turns are messages of
a task of this package (``CARRIER``), for a message of the task itself would run the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib import import_module
from typing import Any

from .._errors import ActivityError, ActivityTimeout, ConfigurationError
from .endings import Withdrawn
from .kinds.call import CallOptions
from .kinds.calling import leaf
from .kinds.kind import host_of
from .retry import Interval, RetryPolicy, in_microseconds

__all__ = [
    "CARRIER",
    "TASK",
    "TaskOptions",
    "carrier_of",
    "raise_if_ignored",
    "refuse_start",
    "run_plain_task",
    "shown_version",
]

#: Stored in the place of a version; no version is called that.
TASK = "@task"
#: The type of the error that an activity has raised by Celery's ``Ignore``.
IGNORED = "celery.exceptions.Ignore"
#: The Celery task whose messages take the turns.
CARRIER = "celery_durable.task"

_INTERVALS = ("first_interval", "max_interval", "total_timeout")
_CLASSES = ("retry_on", "give_up_on")


def carrier_of(name: str, version: str | None) -> str:
    """Return the Celery task whose messages take the turns of an instance."""
    return CARRIER if version == TASK else name


def shown_version(version: str | None) -> str | None:
    """Return the version that people are shown: a plain task has none."""
    return None if version == TASK else version


@dataclass(frozen=True)
class TaskOptions:
    """How a plain task is run; what is kept of it with its instance."""

    #: Options of ``apply_async`` for each attempt.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: None: one attempt.
    retry: RetryPolicy | None = None
    #: Of one attempt, in microseconds; None has no limit.
    timeout: int | None = None
    heartbeat_timeout: int | None = None
    #: Its body does not begin after this time; microseconds by the store's clock.
    expires: int | None = None
    #: Status -> microseconds after which it is purged; None is the setting's.
    retention: Mapping[str, int] | None = None

    def to_kept(self) -> dict[str, Any]:
        """Return what is stored.

        Raises:
            ConfigurationError: the policy names what another process could not import.
        """
        kept = {
            "options": dict(self.options),
            "retry": None if self.retry is None else _policy_to_kept(self.retry),
            "timeout": self.timeout,
            "heartbeat_timeout": self.heartbeat_timeout,
            "expires": self.expires,
        }
        found = {name: value for name, value in kept.items() if value}
        return found if self.retention is None else {**found, "retention": dict(self.retention)}

    @classmethod
    def of_kept(cls, kept: Mapping[str, Any]) -> TaskOptions:
        """Return what was stored.

        Raises:
            ConfigurationError: the policy names what this process cannot import.
        """
        retry = kept.get("retry")
        return cls(
            kept.get("options") or {},
            None if retry is None else _policy_of_kept(retry),
            kept.get("timeout"),
            kept.get("heartbeat_timeout"),
            kept.get("expires"),
        )


async def run_plain_task(ctx: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run one activity and return its result; one that says by ``Ignore`` that it has none ends as
    canceled.
    """
    host = host_of(ctx)
    chosen = TaskOptions.of_kept(host.info.task)
    signature = {"task": ctx.name, "args": args, "kwargs": kwargs, "options": dict(chosen.options)}
    options = CallOptions(
        retry=_unless_withdrawn(chosen.retry),
        timeout=chosen.timeout,
        heartbeat_timeout=chosen.heartbeat_timeout,
    )
    if chosen.expires is not None:
        within = max(chosen.expires - host.now, 0)
        options = replace(options, first_start_timeout=within)
    try:
        return await leaf(host, signature, options).future
    except ActivityTimeout as error:
        if _is_late(error):
            raise Withdrawn("expired") from None
        raise
    except ActivityError as error:
        raise_if_ignored(error)
        raise


def raise_if_ignored(error: ActivityError) -> None:
    """Let an execution end as canceled, one of whose tasks raised Celery's ``Ignore``: neither its
    success nor its failure is to be told to anybody.

    Raises:
        Withdrawn: it is the error of one.
    """
    if error.type == IGNORED:
        raise Withdrawn(error.message or str(error)) from None


def _is_late(error: BaseException) -> bool:
    """Tell whether the body has not begun before it expired."""
    is_timeout = isinstance(error, ActivityTimeout) and error.kind == "start_timeout"
    return is_timeout and getattr(error, "attempt", None) == 1


def _unless_withdrawn(policy: RetryPolicy | None) -> RetryPolicy | None:
    """Return a policy that does not try again what has expired, or wants no result."""
    if policy is None:
        return None
    own = policy.retry_if

    def may_follow(error: BaseException) -> bool:
        if _is_late(error) or getattr(error, "type", None) == IGNORED:
            return False
        return own is None or bool(own(error))

    return replace(policy, retry_if=may_follow)


async def refuse_start(ctx: Any, /, *_: Any, **__: Any) -> None:
    """Refuse to be started: messages of ``CARRIER`` take the turns of plain tasks.

    Raises:
        ConfigurationError: always.
    """
    raise ConfigurationError(f"{ctx.name} takes the turns of plain tasks, and is none itself")


def _interval(micros: int | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=micros)


# -- policies --------------------------------------------------------------------------------------


def _policy_to_kept(policy: RetryPolicy) -> dict[str, Any]:
    kept: dict[str, Any] = {
        "max_attempts": policy.max_attempts,
        "backoff": policy.backoff,
        "jitter": policy.jitter,
    }
    for name in _INTERVALS:
        value: Interval | None = getattr(policy, name)
        kept[name] = None if value is None else in_microseconds(value, name)
    for name in _CLASSES:
        kept[name] = [_place_of(each, name) for each in getattr(policy, name)]
    if policy.retry_if is not None:
        kept["retry_if"] = _place_of(policy.retry_if, "retry_if")
    return kept


def _policy_of_kept(kept: Mapping[str, Any]) -> RetryPolicy:
    given: dict[str, Any] = {name: kept[name] for name in ("max_attempts", "backoff", "jitter")}
    given |= {name: _interval(kept.get(name)) for name in _INTERVALS}
    given |= {name: tuple(map(_imported, kept.get(name) or ())) for name in _CLASSES}
    if "retry_if" in kept:
        given["retry_if"] = _imported(kept["retry_if"])
    return RetryPolicy(**given)


def _place_of(value: Any, what: str) -> str:
    place = f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', '')}"
    try:
        found = _imported(place)
    except ConfigurationError:
        found = None
    if found is not value:
        raise ConfigurationError(
            f"{what} of the retry policy of a plain task must be importable by its name, for the"
            f" worker that decides; {value!r} is not"
        )
    return place


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"{place!r} of a retry policy cannot be imported: {error}"
        ) from None
    return found
