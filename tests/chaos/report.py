"""The figures of one scenario, and the table that is printed of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figures:
    """What one scenario went through."""

    name: str
    rounds: int = 0
    orchestrations: int = 0
    activities: int = 0
    doubles: int = 0
    restarts: int = 0
    exits: int = 0
    refusals: int = 0
    seconds: float = 0
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> Iterable[str]:
        yield (
            f"{self.name:<52} {self.rounds:>6} {self.orchestrations:>5} {self.activities:>6}"
            f" {self.doubles:>6} {self.restarts:>6} {self.refusals:>6} {self.seconds:>7.1f}"
        )
        for kind, count in sorted(self.faults.items()):
            found = sorted(self.recoveries.get(kind, []))
            times = (
                f"p50 {share(found, 0.5):.2f} s, p95 {share(found, 0.95):.2f} s"
                if found
                else "touched nothing"
            )
            yield f"    {count} x {kind:<38} {len(found):>4} affected, moving again after {times}"


HEADER = (
    f"{'scenario':<52} {'rounds':>6} {'runs':>5} {'activ.':>6} {'twice':>6} {'starts':>6}"
    f" {'refus.':>6} {'seconds':>7}"
)


def share(values: list[float], part: float) -> float:
    """A percentile of sorted values, the nearest one that exists."""
    return values[min(len(values) - 1, round(part * (len(values) - 1)))]
