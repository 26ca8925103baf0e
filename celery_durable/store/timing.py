"""How long the store's rows wait before recovery looks at them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RESEND_AFTER", "TIMER_HORIZON", "Timing"]

RESEND_AFTER = 5_000_000
TIMER_HORIZON = 30_000_000


@dataclass(slots=True)
class Timing:
    """Spans in microseconds, the same for all parts of a store."""

    #: After this, recovery sends a message again of which nothing was heard.
    resend_after: int = RESEND_AFTER
    #: A timer's message is sent so long before it is due.
    timer_horizon: int = TIMER_HORIZON
