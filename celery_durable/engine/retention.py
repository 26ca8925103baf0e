"""What is kept with an instance for its end: how long its rows stay, and whether it has slots."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.flags import is_whole
from ..core.status import RuntimeStatus

__all__ = ["Retention"]

log: logging.Logger = logging.getLogger("celery_durable.flow")


@dataclass(frozen=True, slots=True)
class Retention:
    """The policy of one instance; the only code that knows its JSON."""

    #: For how many microseconds an ended instance is kept, by its status; no entry: for ever.
    keep: Mapping[str, int] = field(default_factory=dict)
    #: Whether it has, or waits for, a slot of a limit: its end frees that.
    is_limited: bool = False

    def to_text(self) -> str | None:
        """Return what the store keeps; None if there is nothing to say."""
        policy = {
            **({"keep": dict(self.keep)} if self.keep else {}),
            **({"limited": True} if self.is_limited else {}),
        }
        return json.dumps(policy) if policy else None

    @classmethod
    def parse(cls, text: str | None) -> Retention:
        """Return a stored policy.

        Damaged text keeps for ever, and counts as limited: freeing a slot that is not there does no
        harm.
        """
        try:
            found = json.loads(text) if text else {}
            keep, is_limited = found.get("keep") or {}, found.get("limited") is True
        except (ValueError, AttributeError, RecursionError):
            log.error("the policy of an orchestration is damaged: %.80r", text)
            return cls({}, True)
        return cls(keep if isinstance(keep, dict) else {}, is_limited)

    def period(self, status: RuntimeStatus) -> int | None:
        """Return for how many microseconds an instance with this status is kept; None: for ever."""
        period = self.keep.get(str(status))
        return period if is_whole(period) else None
