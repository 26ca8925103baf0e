"""The options of a call: as type checkers see them, and as they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from ..limits import Limit, Rate, read_limits
from ..retry import Interval, RetryPolicy, in_microseconds
from ..typed import SignatureOf
from .call import CallOptions

__all__ = ["CallKeywords", "ItemKeywords", "Limits", "Signature", "call_options"]

#: Of an activity, a sub-orchestration or a canvas.
Signature = SignatureOf[Any] | Mapping[str, Any]
#: What ``limit=`` takes.
Limits = int | Limit | Rate | Sequence[int | Limit | Rate] | None


class ItemKeywords(TypedDict, total=False):
    """What ``ctx.map`` takes for each item."""

    retry: RetryPolicy | None
    timeout: Interval | None
    start_timeout: Interval | None
    heartbeat_timeout: Interval | None
    limit: Limits
    label: str | None


class CallKeywords(ItemKeywords, total=False):
    """What ``ctx.call`` and ``saga.call`` take, beside ``type``."""

    on_exhausted: Literal["raise", "suspend"]


def call_options(
    *,
    retry: RetryPolicy | None = None,
    timeout: Interval | None = None,
    start_timeout: Interval | None = None,
    heartbeat_timeout: Interval | None = None,
    on_exhausted: str = "raise",
    label: str | None = None,
    limit: Limits = None,
) -> CallOptions:
    """Return options as the kind of a call has them.

    Raises:
        TypeError, ValueError: one cannot be used.
    """
    if on_exhausted not in ("raise", "suspend"):
        raise ValueError(f"on_exhausted must be 'raise' or 'suspend', not {on_exhausted!r}")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy, not {type(retry).__name__}")
    if label is not None and not isinstance(label, str):
        raise TypeError(f"label must be a string, not {type(label).__name__}")
    return CallOptions(
        retry=retry,
        timeout=_optional(timeout, "timeout"),
        start_timeout=_optional(start_timeout, "start_timeout"),
        heartbeat_timeout=_optional(heartbeat_timeout, "heartbeat_timeout"),
        suspend_on_exhausted=on_exhausted == "suspend",
        label=label,
        limits=read_limits(limit, "limit="),
    )


def _optional(interval: Interval | None, what: str) -> int | None:
    return None if interval is None else in_microseconds(interval, what)
