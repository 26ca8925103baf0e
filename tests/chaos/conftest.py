"""Scenarios run side by side; the figures of all of them are printed at the end of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import MARIADB, POSTGRES
from tests.tiers import budget, is_long

from .report import HEADER, Figures
from .scene import SEED, SideBySide

_figures: list[Figures] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scenario(function): what the test looks at the outcome of")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test waits for its scenario, which has time limits of its own, with a better story to tell.

    Most are of the full tier.
    """
    for item in items:
        if item.get_closest_marker("scenario") is not None:
            item.add_marker(pytest.mark.timeout(10 * budget() if is_long() else 1800))
            if item.get_closest_marker("quick") is None:
                item.add_marker(pytest.mark.full)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _figures:
        terminalreporter.section(f"chaos (seed {SEED})")
        terminalreporter.write_line(HEADER)
        for figures in _figures:
            for line in figures.lines():
                terminalreporter.write_line(line)


@pytest.fixture(scope="module")
def side_by_side(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SideBySide]:
    """All selected scenarios of a module, started."""
    servers: dict[str, str | BaseException] = {"postgres": POSTGRES, "mariadb": MARIADB}
    for name in ("redis", "rabbitmq"):
        try:
            servers[name] = request.getfixturevalue(f"{name}_url")
        except (pytest.skip.Exception, pytest.fail.Exception) as absence:
            servers[name] = absence
    runner = SideBySide(tmp_path_factory.mktemp("chaos"), servers)
    for item in request.session.items:
        if (
            marker := item.get_closest_marker("scenario")
        ) is not None and item.path == request.path:
            play = marker.args[0]
            variant = getattr(item, "callspec", None)
            name = "-".join([play.__name__.replace("_", "-"), *([variant.id] if variant else [])])
            runner.submit(item.nodeid, name, play, dict(variant.params) if variant else {})
    yield runner
    runner.close()


@pytest.fixture
def outcome(request: pytest.FixtureRequest, side_by_side: SideBySide) -> Any:
    """What the test's scenario came to."""
    result = side_by_side.result(request.node.nodeid)
    for one in result if isinstance(result, list) else [result]:
        if isinstance(one, Figures):
            _figures.append(one)
    return result
