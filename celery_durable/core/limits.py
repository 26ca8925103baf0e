"""What is declared about when an instance, or an attempt of an activity, may begin, and how long
instances are kept.

Data only.

A key is the name of one of the orchestrator's arguments, or a function of all of them (without
``ctx``); each value of it is limited by itself, and an instance whose key is None is not limited by
that limit.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._errors import ConfigurationError
from .flags import is_whole
from .retry import Interval, in_microseconds
from .status import RuntimeStatus

__all__ = [
    "Debounce",
    "Key",
    "Limit",
    "Rate",
    "check_key",
    "key_of",
    "read_limits",
    "read_retention",
    "scope_of",
    "shortened",
]

Key = str | Callable[..., Any] | None
_LONGEST_LABEL = 60
_LONGEST_NAME = 100
_LONGEST_SCOPE = 190


@dataclass(frozen=True)
class Limit:
    """At most ``most`` run at a time, over all workers; with a ``key``, for each value of it.

    An instance takes its slot when it begins and gives it back when it is over; a suspended one
    keeps it. An attempt of an activity takes its slot before it is sent, and gives it back when
    its outcome is recorded.

    Args:
        most: how many slots there are.
        key: the name of an argument; of an orchestrator, and in ``ctx.call`` and ``ctx.map``, also
            a function of all arguments. What has None is not limited.
        name: of activities: all limits of one name share their slots. Without a name it is the
            task's own. An orchestrator's limit is always its own, whatever its name is.

    Raises:
        ConfigurationError: ``most`` is no number of at least 1, ``key`` is neither a name nor a
            function, or ``name`` is no text.

    Example:
        >>> @durable.orchestrator(limit=Limit(1, key="customer"))
        ... async def sync(ctx: OrchestrationContext, customer: str) -> None:
        ...     await ctx.call(charge.s(customer), limit=Limit(10, name="bank"))
    """

    most: int
    key: Key = None
    name: str | None = None

    def __post_init__(self) -> None:
        _check_most("Limit", self.most)
        _check_kind_of_key("Limit", self.key)
        _check_name("Limit", self.name)

    @property
    def label(self) -> str:
        """Return what names this limit in the store, whatever its number is."""
        return _label("running", self.key)

    @property
    def period(self) -> int | None:
        """Return None: a slot is taken until its instance is over."""
        return None


@dataclass(frozen=True)
class Rate:
    """At most ``most`` instances begin, or attempts of activities are sent, within any ``per``.

    Args:
        most: how many.
        per: seconds or ``timedelta``.
        key: for each value of it, as in ``Limit``.
        name: as in ``Limit``.

    Raises:
        ConfigurationError: ``most`` is no number of at least 1, ``per`` no interval, ``key``
            neither a name nor a function, or ``name`` no text.

    Example:
        >>> @durable.orchestrator(limit=[Limit(50), Rate(100, per=60)])
        ... async def call_back(ctx: OrchestrationContext, customer: str) -> None:
        ...     await ctx.call(charge.s(customer))
    """

    most: int
    per: Interval
    key: Key = None
    name: str | None = None

    def __post_init__(self) -> None:
        _check_most("Rate", self.most)
        _interval("Rate", "per", self.per)
        _check_kind_of_key("Rate", self.key)
        _check_name("Rate", self.name)

    @property
    def label(self) -> str:
        """Return what names this limit in the store, whatever its number is."""
        return _label(f"starts/{self.period}", self.key)

    @property
    def period(self) -> int:
        """Return for how many microseconds a start counts."""
        return in_microseconds(self.per)


@dataclass(frozen=True)
class Debounce:
    """Several starts become one run, with the last input, once ``quiet`` has passed without
    another.

    Args:
        quiet: seconds or ``timedelta``.
        key: starts with one value of it belong together; without a key, all starts of the
            orchestrator.
        max_wait: it begins so long after the first start at the latest; None waits as long as
            starts come.

    Raises:
        ConfigurationError: an interval or the key cannot be used.

    Example:
        >>> @durable.orchestrator(debounce=Debounce(quiet=30, key="document", max_wait=600))
        ... async def index(ctx: OrchestrationContext, document: str) -> None:
        ...     await ctx.call(charge.s(document))
    """

    quiet: Interval
    key: Key = None
    max_wait: Interval | None = None

    def __post_init__(self) -> None:
        quiet = _interval("Debounce", "quiet", self.quiet)
        if self.max_wait is not None and _interval("Debounce", "max_wait", self.max_wait) < quiet:
            raise ConfigurationError(
                f"Debounce: max_wait ({self.max_wait!r}) is shorter than quiet ({self.quiet!r})"
            )
        _check_kind_of_key("Debounce", self.key)


def _check_most(what: str, most: object) -> None:
    if not is_whole(most) or most < 1:
        raise ConfigurationError(f"{what} takes a number of at least 1, not {most!r}")


def _interval(what: str, name: str, value: Any) -> int:
    try:
        micros = in_microseconds(value, name)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{what}: {error}") from error
    if not 0 < micros < 10**18:
        raise ConfigurationError(
            f"{what}: {name} must be more than 0, and less than 30,000 years, not {value!r}"
        )
    return micros


def _check_kind_of_key(what: str, key: object) -> None:
    if key is not None and not callable(key) and not (isinstance(key, str) and key.isidentifier()):
        raise ConfigurationError(
            f"{what}: key is the name of an argument or a function of the arguments, not {key!r}"
        )


def _check_name(what: str, name: object) -> None:
    if name is None:
        return
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise ConfigurationError(
            f"{what}: name is a text of at most {_LONGEST_NAME} characters, not {name!r}"
        )


def read_limits(given: Any, what: str) -> tuple[Limit | Rate, ...]:
    """Return what ``limit=`` was given, as a sequence: None is no limit, a number is a ``Limit``.

    Raises:
        ConfigurationError: it is none of a number, Limit, Rate, or a list of these.
    """
    limits = [] if given is None else given if isinstance(given, (list, tuple)) else [given]
    found = []
    for each in limits:
        limit = Limit(each) if is_whole(each) else each
        if not isinstance(limit, (Limit, Rate)):
            raise ConfigurationError(
                f"{what}: limit takes a number, Limit, Rate, or a list of these, not {limit!r}"
            )
        found.append(limit)
    return tuple(found)


def _label(kind: str, key: Key) -> str:
    name = (
        ""
        if key is None
        else key
        if isinstance(key, str)
        else f"{getattr(key, '__qualname__', repr(type(key)))}()"
    )
    return shortened(f"{kind}:{name}", _LONGEST_LABEL)


def shortened(text: str, most: int) -> str:
    """Return text as any key column holds it: not too long, no NUL, no halves of characters."""
    if len(text) <= most and text.isprintable():
        return text
    return f"#{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def scope_of(label: str, key: str | None) -> str:
    """Return what names the slots of one limit for one value of its key."""
    return shortened(f"{label}={key or ''}", _LONGEST_SCOPE)


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def check_key(key: Key, function: Callable[..., Any], what: str) -> None:
    """Refuse a key that names no argument of an orchestrator.

    Raises:
        ConfigurationError: there is no such argument.
    """
    if not isinstance(key, str):
        return
    parameters = list(_signature(function).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]
    if key not in names:
        raise ConfigurationError(
            f"{what}: {function.__name__}() has no argument {key!r}; it has"
            f" {', '.join(names) or 'none but ctx'}"
        )


def key_of(
    key: Key, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """Return the value of a key for these arguments, as text; None is no limit.

    Raises:
        TypeError: the value is neither a string, a whole number, a UUID nor None.
        Exception: whatever the key's function raises.
    """
    if callable(key):
        value = key(*args, **kwargs)
    else:
        bound = _signature(function).bind(None, *args, **kwargs)
        bound.apply_defaults()
        found = dict(bound.arguments)
        for parameter in bound.signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                found.update(found.pop(parameter.name, {}))
        value = found[str(key)]
    if value is not None and not isinstance(value, (str, int, uuid.UUID)):
        raise TypeError(
            f"a key is a string, a whole number, a UUID or None, not {type(value).__name__}"
        )
    return None if value is None else str(value)


def read_retention(value: Any, what: str = "retention", more: Sequence[str] = ()) -> dict[str, int]:
    """Return how many microseconds a finished orchestration is kept, by its status.

    What is not there is kept for ever.

    Args:
        value: seconds or ``timedelta`` for each status, None for ever, or a mapping by status.
        what: how errors name it.
        more: what else a mapping may say that for.

    Raises:
        ConfigurationError: it is none of these.
    """
    ended = [status for status in RuntimeStatus if status.is_terminal]
    given = value if isinstance(value, Mapping) else dict.fromkeys(ended, value)
    found: dict[str, int] = {}
    for status, interval in given.items():
        if status not in ended and status not in more:
            known = ", ".join([*ended, *more])
            raise ConfigurationError(f"{what}: {status!r} is not one of {known}")
        if interval is None:
            continue
        try:
            micros = in_microseconds(interval, what)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{what} is seconds, a timedelta, None, or a mapping of these: {error}"
            ) from error
        if micros > 10**17:
            raise ConfigurationError(
                f"{what}: {interval!r} is more than 3,000 years; None keeps for ever"
            )
        found[str(status)] = micros
    return found
