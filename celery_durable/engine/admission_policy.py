"""What an orchestrator declares about the beginnings of its instances: limits, a debounce, a
priority.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._errors import ConfigurationError
from ..core.limits import Debounce, Limit, Rate, check_key, key_of, read_limits
from ..core.retry import in_microseconds
from .writes import Admission, Slot

__all__ = ["AdmissionPolicy", "declared_policy"]

_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class AdmissionPolicy:
    """What an orchestrator declares about its beginnings."""

    #: Its function: keys are computed from its arguments.
    function: Callable[..., Any]
    #: All must have room before an instance may begin.
    limits: tuple[Limit | Rate, ...] = ()
    #: None: each start is an instance of its own.
    debounce: Debounce | None = None
    #: Higher ones begin first.
    priority: int = 0

    @property
    def maxima(self) -> dict[str, int]:
        """Return the number of each limit, by its label."""
        return {limit.label: limit.most for limit in self.limits}

    def admission(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        priority: int | None,
        *,
        debounces: bool,
    ) -> Admission | None:
        """Return what an instance with these arguments waits for, or None if it is nothing.

        Raises:
            ValueError: a key cannot be computed.
        """
        debounce = self.debounce if debounces else None
        found: list[Slot] = []
        for limit in self.limits:
            key = None if limit.key is None else self._key(limit.label, limit.key, args, kwargs)
            if key is not None or limit.key is None:
                found.append(Slot(limit.label, key, limit.most, limit.period))
        chosen = min(max(self.priority if priority is None else priority, -_LARGEST), _LARGEST)
        if debounce is None:
            return Admission(tuple(found), chosen) if found else None
        key = None if debounce.key is None else self._key("debounce", debounce.key, args, kwargs)
        return Admission(
            tuple(found),
            chosen,
            hashlib.sha256(json.dumps([name, key]).encode()).hexdigest()[:40],
            in_microseconds(debounce.quiet),
            None if debounce.max_wait is None else in_microseconds(debounce.max_wait),
        )

    def _key(
        self, label: str, key: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> str | None:
        try:
            return key_of(key, self.function, args, kwargs)
        except Exception as error:
            raise ValueError(
                f"the key of its limit {label!r} cannot be told: {type(error).__name__}: {error}"
            ) from error


def declared_policy(
    function: Callable[..., Any], options: Mapping[str, Any]
) -> AdmissionPolicy | None:
    """Check the options ``limit`` and ``debounce`` of a declaration; None if there is neither.

    Raises:
        ConfigurationError: they cannot be used.
    """
    given, debounce, priority = (
        options.get("limit"),
        options.get("debounce"),
        options.get("priority"),
    )
    if given is None and debounce is None:
        return None
    what = f"orchestrator {getattr(function, '__name__', function)}"
    limits: list[Limit | Rate] = []
    for limit in read_limits(given, what):
        if limit.label in {other.label for other in limits}:
            raise ConfigurationError(
                f"{what}: two limits have the same key ({limit.label}); name the keys' functions"
            )
        check_key(limit.key, function, what)
        limits.append(limit)
    if debounce is not None and not isinstance(debounce, Debounce):
        raise ConfigurationError(
            f"{what}: debounce takes Debounce(seconds, key=...), not {debounce!r}"
        )
    if debounce is not None:
        check_key(debounce.key, function, what)
    return AdmissionPolicy(
        function, tuple(limits), debounce, priority if isinstance(priority, int) else 0
    )
