"""The matrix: a program, every call that it makes, and every way in which that call can go
wrong.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.tiers import is_long, some

from .clock import ServerTime
from .probe import Call, Mode, Probe
from .programs import Program
from .stage import World
from .verdict import Ending, ending_of, problems_of

ALL_PLACES = frozenset({"store", "broker", "backend"})


@dataclass
class Laboratory:
    """Makes worlds over fresh copies of an empty SQLite store."""

    template: Path
    directory: Path
    _numbers: count[int] = field(default_factory=count)

    def world(self, program: Program, probe: Probe, **options: Any) -> World:
        path = self.directory / f"{next(self._numbers)}.db"
        shutil.copy(self.template, path)
        return World(f"sqlite:///{path}", program, probe, **options)

    def forget(self, world: World) -> None:
        world.close()
        for path in self.directory.glob(f"{Path(world.url).name}*"):
            path.unlink()


@dataclass
class ServerLaboratory(Laboratory):
    """The same over one database of a server, emptied for every world."""

    url: str = ""

    def world(self, program: Program, probe: Probe, **options: Any) -> World:
        world = World(self.url, program, probe, clock=ServerTime(), **options)
        world.empty()
        return world

    def forget(self, world: World) -> None:
        world.close()


@dataclass
class Report:
    """What a walk through the matrix found."""

    cases: int = 0
    by_mode: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def note(
        self, program: Program, disturbed: Iterable[tuple[int, Call, Mode]], problems: list[str]
    ) -> None:
        self.cases += 1
        told = ", ".join(
            f"{mode.name} at call {number} ({call})" for number, call, mode in disturbed
        )
        for _, call, mode in disturbed:
            self.by_mode[mode.name] += 1
            self.calls[str(call)] += 1
        if problems:
            self.failures.append(f"{program.name}: {told}:\n    " + "\n    ".join(problems))

    def text(self, most: int = 12) -> str:
        """Return the failures for people."""
        rest = f"\n... and {len(self.failures) - most} more" if len(self.failures) > most else ""
        return (
            f"{len(self.failures)} of {self.cases} cases failed\n"
            + "\n".join(self.failures[:most])
            + rest
        )


def undisturbed(
    laboratory: Laboratory, program: Program, **options: Any
) -> tuple[list[Call], Ending]:
    """Run a program as it should go; return every call it made, and how it ended."""
    probe = Probe(**options)
    world = laboratory.world(program, probe)
    world.run()
    ending = ending_of(world)
    problems = problems_of(world, ending)
    laboratory.forget(world)
    assert not problems, f"{program.name}, undisturbed: {problems}"
    return probe.calls, ending


def try_plan(
    laboratory: Laboratory,
    program: Program,
    plan: Mapping[int, Mode],
    expected: Ending,
    report: Report,
    **options: Any,
) -> bool:
    """Run a program with a plan of faults.

    False if the plan came to nothing, because the run had ended before.
    """
    probe = Probe(plan, **options)
    world = laboratory.world(program, probe)
    try:
        world.run()
        problems = problems_of(world, expected)
    except Exception as error:  # what nobody expects is a finding too
        problems = [f"{type(error).__name__}: {error}"]
    laboratory.forget(world)
    if plan and not probe.disturbed:
        return False
    report.note(program, probe.disturbed, problems)
    return True


def walk(laboratory: Laboratory, program: Program, *modes: Mode, share: float) -> Report:
    """Disturb calls of a program in every mode: deaths at effects, and a part of the rest.

    In the long tier, all of them.
    """
    calls, expected = undisturbed(laboratory, program)
    report = Report()
    for mode in modes:
        stride = _STRIDES.get(mode, 1)
        numbers = list(range(len(calls))) if is_long() else points(calls, mode)
        key = f"{program.name} {mode.name}"
        for number in some(
            numbers, quick=6 * stride, full=6 * stride, key=key, share=share / len(modes)
        ):
            try_plan(laboratory, program, {number: mode}, expected, report)
    return report


def sweep(
    laboratory: Laboratory,
    program: Program,
    mode: Mode,
    *,
    together: int = 1,
    quick: int,
    full: int,
    share: float,
) -> Report:
    """Disturb the k-th call, and as many after it as are said, for many k."""
    calls, expected = undisturbed(laboratory, program)
    report = Report()
    for first in some(range(len(calls)), quick=quick, full=full, key=program.name, share=share):
        try_plan(
            laboratory,
            program,
            dict.fromkeys(range(first, first + together), mode),
            expected,
            report,
        )
    return report


def points(calls: list[Call], mode: Mode) -> list[int]:
    """Return the calls at which a mode is tried in the short form.

    A call that leaves nothing behind may as well not have been made before a death, and a death
    after a call is a death before the next. Where a call has its like before and after it in the
    same run, ``_SAMPLED`` modes leave it out.
    """
    if mode is Mode.DIES_AFTER:
        return [len(calls) - 1]
    if mode is Mode.FAILS_BEFORE:
        return list(range(len(calls)))
    if mode not in _SAMPLED:
        return [number for number, call in enumerate(calls) if call.has_effect]
    alike: dict[Call, list[int]] = {}
    for number, call in enumerate(calls):
        alike.setdefault(call, []).append(number)
    return sorted({number for numbers in alike.values() for number in (numbers[0], numbers[-1])})


_STRIDES = {Mode.IS_REPLACED: 4, Mode.FREEZES: 3, Mode.IS_OVERTAKEN: 3, Mode.FAILS_AFTER: 3}
_SAMPLED = {Mode.IS_REPLACED, Mode.FREEZES, Mode.IS_OVERTAKEN}
