"""Every pool, store and broker with which a killed worker is tried, and the table of them for the
documentation.

``python -m tests.chaos.matrix`` puts the table into the page on guarantees, between two comments.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "guarantees.md"

POOLS = ("prefork", "threads", "gevent", "solo")
STORES = ("PostgreSQL", "SQLite", "MariaDB")
BROKERS = ("Redis", "embedded `durable://`", "RabbitMQ, classic queues", "RabbitMQ, quorum queues")


class Combination(NamedTuple):
    """One pool with one store and one broker."""

    pool: str
    store: str
    broker: str

    @property
    def is_default(self) -> bool:
        """True for those of every full run: each pool, store and broker with each other.

        Quorum queues with one of each.
        """
        if self.broker == BROKERS[-1]:
            return self[:2] == ("prefork", "PostgreSQL")
        number = POOLS.index(self.pool) + BROKERS.index(self.broker)
        return STORES[number % len(STORES)] == self.store

    def __str__(self) -> str:
        words = self.broker.replace("`", "").replace(",", "").replace("://", "").split()
        return "-".join(
            [self.pool, self.store.lower(), *(word.lower() for word in words if word != "queues")]
        )


COMBINATIONS = tuple(
    Combination(pool, store, broker) for store in STORES for broker in BROKERS for pool in POOLS
)
DEFAULT = tuple(one for one in COMBINATIONS if one.is_default)


def markdown() -> str:
    """Render the table for the documentation."""
    lines = [
        "| store | broker | " + " | ".join(f"`{pool}`" for pool in POOLS) + " |",
        "| --- | --- | " + " | ".join("---" for _ in POOLS) + " |",
    ]
    for store in STORES:
        for broker in BROKERS:
            cells = (
                "every run" if Combination(pool, store, broker).is_default else "long run"
                for pool in POOLS
            )
            lines.append(f"| {store} | {broker} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return the page with the table in its place, which two comments mark."""
    begin, end = "<!-- matrix -->\n", "<!-- end of matrix -->"
    before, _, rest = page.partition(begin)
    if not rest or end not in rest:
        raise ValueError(f"the page has no place for the table: {begin.strip()} and {end}")
    return f"{before}{begin}{markdown()}{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
