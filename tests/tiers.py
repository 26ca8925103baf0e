"""Which tests run: the quick tier by itself, the full and the long one by option.

See ``tests/conftest.py``.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import TypeVar

import pytest

__all__ = [
    "Tier",
    "add_options",
    "budget",
    "choose",
    "configure",
    "is_long",
    "rounds",
    "some",
    "tier",
]

T = TypeVar("T")


class Tier(IntEnum):
    """The tiers; each contains those before it."""

    QUICK = 1
    FULL = 2
    LONG = 3


_VARIABLE, _BUDGET = "DURABLE_TEST_TIER", "DURABLE_TEST_BUDGET"
_SERVERS = {"postgres", "mariadb", "redis", "rabbitmq", "amqp"}
_SERVER_FIXTURES = {f"{name}_url" for name in _SERVERS}


def add_options(parser: pytest.Parser) -> None:
    """Offer ``--tier`` and ``--budget``."""
    names = [tier.name.lower() for tier in Tier]
    given = os.environ.get(_VARIABLE, "quick")
    parser.addoption("--tier", choices=names, default=given, help="how much is tested (quick)")
    parser.addoption(
        "--budget",
        type=float,
        default=float(os.environ.get(_BUDGET, "300")),
        help="how many seconds each search and storm of the long tier may take (300)",
    )


def configure(config: pytest.Config) -> None:
    """Let the options be known to modules that ask while they are imported, and to a pytest that a
    test starts.
    """
    os.environ[_VARIABLE], os.environ[_BUDGET] = (
        config.getoption("--tier"),
        str(config.getoption("--budget")),
    )
    config.addinivalue_line(
        "markers", "quick: needs no server; set by the tests' own rule, not by hand"
    )
    config.addinivalue_line(
        "markers", "full: needs a server or much time, and runs with --tier=full"
    )
    config.addinivalue_line("markers", "long: a long form, which runs with --tier=long")
    config.addinivalue_line(
        "markers", "sparse(n): of each n cases of the test one, and all of them with --tier=long"
    )


def choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its tier, and leave those out that are of a higher one than is asked for."""
    chosen = tier()
    _thin_out(items)
    for item in items:
        if not any(item.get_closest_marker(each.name.lower()) for each in Tier):
            item.add_marker("full" if _asks_for_a_server(item) else "quick")
    out = {item for item in items if _tier_of(item) > chosen}
    if out:
        config.hook.pytest_deselected(items=list(out))
        items[:] = [item for item in items if item not in out]


def _thin_out(items: list[pytest.Item]) -> None:
    """Leave most cases of a test that is marked ``sparse`` to the long tier.

    The one that stays is at another place in each row of n, so that of two parameters that are
    crossed each value stays with some other.
    """
    seen: Counter[str] = Counter()
    for item in items:
        mark = item.get_closest_marker("sparse")
        if mark is None or item.get_closest_marker("long") is not None:
            continue
        test, each = item.nodeid.partition("[")[0], mark.args[0]
        row, place = divmod(seen[test], each)
        seen[test] += 1
        if place != row % each:
            item.add_marker("long")


def _tier_of(item: pytest.Item) -> Tier:
    return max(each for each in Tier if item.get_closest_marker(each.name.lower()) is not None)


def _asks_for_a_server(item: pytest.Item) -> bool:
    words = set(getattr(getattr(item, "callspec", None), "id", "").replace("_", "-").split("-"))
    return bool(_SERVERS & words or _SERVER_FIXTURES & set(getattr(item, "fixturenames", ())))


def tier() -> Tier:
    """Return the tier of this run."""
    return Tier[os.environ.get(_VARIABLE, "quick").upper()]


def is_long() -> bool:
    """Tell whether this is a run of the long tier."""
    return tier() is Tier.LONG


def budget() -> float:
    """Return how many seconds a search or storm of the long tier may take."""
    return float(os.environ.get(_BUDGET, "300"))


def some(things: Sequence[T], *, quick: int, full: int, key: str, share: float = 1) -> Iterator[T]:
    """Give a part of many things that are alike: each so-manieth in the quick and the full tier,
    beginning where a key says.

    In the long tier all of them come, in any order, until their share of the budget is spent; the
    first always comes.
    """
    if not is_long():
        step = quick if tier() is Tier.QUICK else full
        yield from things[random.Random(key).randrange(min(step, len(things) or 1)) :: step]
        return
    end = time.monotonic() + budget() * share
    for number, thing in enumerate(random.Random(key).sample(things, len(things))):
        if number and time.monotonic() > end:
            return
        yield thing


def rounds(*, quick: int, full: int, long: int = 200) -> Iterator[int]:
    """Give how many examples to try, once.

    In the long tier again and again until the budget is spent.
    """
    if not is_long():
        yield quick if tier() is Tier.QUICK else full
        return
    end = time.monotonic() + budget()
    while time.monotonic() < end:
        yield long
