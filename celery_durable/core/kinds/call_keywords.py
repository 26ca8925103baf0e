"""The options of a call as type checkers see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from ..limits import Limit, Rate
from ..retry import Interval, RetryPolicy
from ..typed import SignatureOf

__all__ = ["CallKeywords", "ItemKeywords", "Limits", "Signature"]

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
