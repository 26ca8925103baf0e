"""``DurableEnv``: what a test does with orchestrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..core.retry import Interval
from ..core.status import RuntimeStatus
from ..errors import DurableError
from ..handles.orchestration import Orchestration
from ..handles.waiting import drivers
from ..settings import read_settings
from .calls import Call, StandIn, plain_runs
from .coming import ComingEvent, ComingEvents, delta_of
from .crash_points import CrashPoints
from .driver import Driver, eagerly
from .places import Places
from .rehash import Rehash
from .replacing import Replacement, StandIns, name_of

if TYPE_CHECKING:
    from ..app.durable import Durable

__all__ = ["DurableEnv"]

_MICROSECOND = timedelta(microseconds=1)
_MOST_JUMPS = 100_000
_NEVER_FITS = "NonDeterminismError: "


class DurableEnv:
    """The orchestrations of one test: a store of their own, and a clock that jumps.

    All that is due runs in this thread, by the real engine and Celery's own tracer; nothing is sent
    to a broker. Time passes when the test says so, or ``run`` needs it.

    Example:
        >>> def test_reminder(durable_env):
        ...     durable_env.replace(charge, raises=[CardDeclined(), None])
        ...     durable_env.event("order-1", "approved", {"by": "ada"}, after=timedelta(days=2))
        ...     result = durable_env.run(fulfil.s("1"), instance_id="order-1")
        ...     assert result["by"] == "ada"
    """

    def __init__(self, durable: Durable, places: Places) -> None:
        self.durable: Durable = durable
        self._places = places
        self._stack = ExitStack()
        self._coming = ComingEvents(durable)
        self._replaced: list[Replacement] = []
        self._rehash: Rehash | None = None
        #: The instances whose disagreement the test has heard of.
        self._reported: set[str] = set()
        self._stand_ins = StandIns(lambda: self._driver.calls)
        self._settings = read_settings(durable.app.conf)
        self._driver: Driver

    def __enter__(self) -> DurableEnv:
        self._stack.enter_context(eagerly(self.durable))
        drivers.append(self._drive)
        self._stack.callback(drivers.remove, self._drive)
        self._stack.enter_context(plain_runs(self.durable.app, lambda: self._driver.calls))
        self._stack.enter_context(self._stage(CrashPoints()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None and self._rehash is not None:
                self._refuse_unfaithful()
                self._rehash.check(self.durable)
        finally:
            for replacement in reversed(self._replaced):
                replacement.end()
            self._stack.close()

    @contextmanager
    def _stage(self, points: CrashPoints) -> Iterator[Driver]:
        """Let everything happen in a store of its own."""
        before = self.__dict__.get("_driver"), self._coming
        with self._places.fresh(self._settings, points) as place:
            driver = self._driver = Driver(self.durable, place, points)
            driver.is_cold = self._rehash is not None
            self._coming = coming = ComingEvents(self.durable)
            driver.deliver = lambda: coming.deliver(place.clock.now())
            driver.after_step = self._complain
            try:
                yield driver
            finally:
                driver.close()
                self._coming = before[1]
                if before[0] is not None:
                    self._driver = before[0]

    # -- running -----------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The time by the clock of the test, aware UTC."""
        return self._driver.now()

    def start(self, signature: Any, **options: Any) -> Orchestration[Any]:
        """Start an orchestration as ``durable.start`` does, do all that is due, and return its
        handle. No time passes.

        Raises:
            TypeError, PayloadError: see ``durable.start``.

        Example:
            >>> run = durable_env.start(fulfil.s("1"), instance_id="order-1")
        """
        started = self.durable.start(signature, **options)
        self.run_until_idle()
        return started

    def run(self, signature: Any, **options: Any) -> Any:
        """Start an orchestration, let as much time pass as it needs, and return its output.

        Raises:
            DurableError: it waits for what no clock brings, or never comes to an end.
            Exception: what it failed with.

        Example:
            >>> assert durable_env.run(fulfil.s("1"))["by"] == "ada"
        """
        started = self.start(signature, **options)
        for _ in range(_MOST_JUMPS):
            status = started.refresh().runtime_status
            if status.is_terminal:
                return started.get(timeout=0)
            moment = None if status is RuntimeStatus.SUSPENDED else self._next_moment()
            if moment is None:
                raise DurableError(
                    f"{started.id!r} waits for what no clock brings: {_waits_for(started)}",
                    instance_id=started.id,
                )
            self._driver.jump(moment)
            self._refuse_unfaithful()
        raise DurableError(
            f"{started.id!r} has not come to an end by {self.now:%Y-%m-%d}, and more becomes due:"
            f" this gives up after {_MOST_JUMPS} moments",
            instance_id=started.id,
        )

    def _drive(self, timeout: float | None, is_over: Callable[[], bool]) -> None:
        """Let happen what a wait of the code under test would see happen."""
        if self._driver.is_busy:
            return
        self.run_until_idle()
        end = None
        if timeout is not None:
            end = self._driver.place.clock.now() + int(timeout * 1_000_000)
        for _ in range(_MOST_JUMPS):
            moment = None if is_over() else self._next_moment()
            if moment is None or (end is not None and moment > end):
                return
            self._driver.jump(moment)

    def run_until_idle(self) -> None:
        """Take every turn and run every activity that is due now, until nothing is.

        Raises:
            DurableError: an orchestration calls a task that is not registered, or continues without
                end.
        """
        self._driver.run_until_idle()
        self._refuse_unfaithful()

    def advance(self, delta: Interval | None = None, **parts: float) -> None:
        """Let time pass, and do what becomes due on the way, each at its own time.

        Args:
            delta: how much; ``timedelta`` or seconds.
            **parts: those of ``timedelta``.

        Raises:
            ValueError: time does not go back.

        Example:
            >>> durable_env.advance(days=30)
        """
        whole = delta_of(delta or 0, **parts)
        if whole < timedelta():
            raise ValueError("time does not go back")
        self._advance(self._driver.place.clock.now() + whole // _MICROSECOND)

    def advance_to(self, when: datetime) -> None:
        """Let time pass up to a moment, aware.

        Raises:
            ValueError: it has no time zone, or is past.

        Example:
            >>> durable_env.advance_to(datetime(2027, 1, 1, tzinfo=UTC))
        """
        moment = self._driver.micros_of(when)
        if moment < self._driver.place.clock.now():
            raise ValueError(f"time does not go back: it is {self.now}")
        self._advance(moment)

    def _advance(self, target: int) -> None:
        self.run_until_idle()
        while (moment := self._next_moment()) is not None and moment <= target:
            self._driver.jump(moment)
        self._driver.jump(target)
        self._refuse_unfaithful()

    def _next_moment(self) -> int | None:
        now = self._driver.place.clock.now()
        moments = [event.moment for event in self._coming.events if event.moment > now]
        due = self._driver.next_due()
        return min([*moments, *([] if due is None else [due])], default=None)

    # -- events ------------------------------------------------------------------------------------

    def event(
        self,
        run: Orchestration[Any] | str,
        name: str,
        data: Any = None,
        *,
        after: Interval | None = None,
        at: datetime | None = None,
    ) -> None:
        """Raise an event now or later; one for an id that is not started yet waits for its start.

        Args:
            run: the orchestration, or its id.
            name: what it waits for by ``ctx.wait_event(name)``.
            data: the payload.
            after: how long from now; ``timedelta`` or seconds.
            at: an aware moment.

        Raises:
            TypeError: both ``after`` and ``at`` are given.
            ValueError: ``at`` has no time zone, or ``after`` is negative.

        Example:
            >>> durable_env.event("order-1", "approved", after=timedelta(days=2))
        """
        if after is not None and at is not None:
            raise TypeError("event() takes after= or at=, not both")
        delay = delta_of(after or 0)
        if delay < timedelta():
            raise ValueError("an event cannot come before now")
        moment = self._driver.place.clock.now() if at is None else self._driver.micros_of(at)
        moment += delay // _MICROSECOND
        coming = ComingEvent(moment, run if isinstance(run, str) else run.id, name, data)
        self._coming.events.append(coming)
        if after is None and at is None:
            self._coming.deliver(self._driver.place.clock.now())

    # -- tasks -------------------------------------------------------------------------------------

    def replace(self, task: Any, **how: Any) -> Replacement:
        """Let something else happen instead of a task's body, or of a child's code, until the test
        ends or, as ``with env.replace(...):``, the block.

        Args:
            task: the task or the orchestrator, or its name, which need not be known here.
            **how: exactly one of ``returns`` (a value), ``raises`` (an exception; None returns
                None) and ``side_effect`` (a function of the arguments). A list gives one for each
                attempt; one more is an ``AssertionError``. To return a list, put it in a list.

        Raises:
            TypeError: not exactly one of the three is given, or it is of the wrong kind.

        Example:
            >>> durable_env.replace(charge, raises=[CardDeclined(), None])
        """
        name = name_of(task, self.durable.app)
        stand_in = StandIn(name, **how)
        undo = self._stand_ins.put(self.durable.app, self.durable.registry, stand_in)
        replacement = Replacement(stand_in, undo)
        self._replaced.append(replacement)
        return replacement

    def calls(self, task: Any) -> list[Call]:
        """Return the attempts of a task that ran, in order; of a child, if it was replaced.

        So too the runs of a plain task that was sent, as by an activity: those have its
        ``instance_id``, or an empty one.

        Example:
            >>> assert [call.args for call in durable_env.calls(charge)] == [("1", 99)]
        """
        return list(self._driver.calls.found.get(name_of(task, self.durable.app), ()))

    def _complain(self) -> None:
        for replacement in self._replaced:
            if (complaint := replacement.stand_in.complaint) is not None:
                replacement.stand_in.complaint = None
                raise complaint

    # -- crashes and determinism -------------------------------------------------------------------

    def crash_everywhere(self, scenario: Callable[[DurableEnv], object]) -> int:
        """Call ``scenario(env)`` without a crash, then once for each point at which a worker may
        die, each time with an empty store; return how many points there are.

        Workers may die before and after each commit and each send, and between the body of an
        activity and the record of its outcome. Another one takes over: bodies may run again.

        Raises:
            AssertionError: with some crash, ``scenario`` returned something else than without, or
                raised. It names the point.
            Exception: what ``scenario`` raises without a crash.

        Example:
            >>> def scenario(env):
            ...     return env.run(fulfil.s("1"), instance_id="order-1")
            >>> assert durable_env.crash_everywhere(scenario) > 0
        """
        points = CrashPoints()
        expected = self._scene(scenario, points)
        for number in range(points.count):
            dying = CrashPoints()
            dying.target = number
            try:
                found = self._scene(scenario, dying)
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as error:  # those of pytest's own are no ``Exception``
                raise AssertionError(
                    f"when its worker died {dying.died} (point {number}), the scenario raised"
                    f" {type(error).__name__}: {error}"
                ) from error
            assert found == expected, (
                f"when its worker died {dying.died} (point {number}), the scenario returned"
                f" {found!r} instead of {expected!r}"
            )
        return points.count

    def _scene(self, scenario: Callable[[DurableEnv], object], points: CrashPoints) -> object:
        own = len(self._replaced)
        try:
            with ExitStack() as stack:
                for replacement in self._replaced:
                    stack.enter_context(replacement.stand_in.from_the_first())
                stack.enter_context(self._stage(points))
                return _comparable(scenario(self))
        finally:
            while len(self._replaced) > own:
                self._replaced.pop().end()

    def check_determinism(self, *, hash_seeds: int = 2) -> None:
        """From now on replay each turn from history, and at the end of the test every finished
        history in processes with other hash seeds.

        Those processes import the modules of the orchestrators: what is declared inside a function
        they cannot have; ``hash_seeds=0`` is for that.

        Raises:
            AssertionError: later, where the code asks for something else than history holds.

        Example:
            >>> durable_env.check_determinism()
            >>> durable_env.run(fulfil.s("1"))
        """
        self._rehash = Rehash(hash_seeds)
        self._driver.is_cold = True
        self._driver.runtime.live.clear()

    def _refuse_unfaithful(self) -> None:
        if self._rehash is None:
            return
        for run in self.durable.find(status="SUSPENDED", limit=100).items:
            reason = run.reason or ""
            if run.id in self._reported:
                continue
            if reason.startswith(_NEVER_FITS):
                self._reported.add(run.id)
            assert not reason.startswith(_NEVER_FITS), f"{run.name} {run.id!r}: {reason}"
        self._rehash.keep(self.durable, self._driver.calls.stood_in)


def _comparable(result: object) -> object:
    """Return what tells two results apart: ids of orchestrations are random."""
    if isinstance(result, Orchestration):
        run = result.refresh()
        return run.name, run.runtime_status, run.output
    return result


def _waits_for(run: Orchestration[Any]) -> str:
    found = run.explain()
    is_suspended = run.runtime_status is RuntimeStatus.SUSPENDED
    if is_suspended:
        return f"it is suspended: {run.reason}"
    return "; ".join(
        f"it {each}" if each.startswith("waits ") else each for each in found.sentences
    ) or (f"it is {found.state}")
