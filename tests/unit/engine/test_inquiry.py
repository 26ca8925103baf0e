"""The proof that a message is lost, against brokers and workers that a generator makes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from celery_durable.engine.inquiry import Hands, Inquiry
from celery_durable.engine.records import ActivityAttemptId

SECOND = 1_000_000
LEASE = 10 * SECOND
FIRST_CHECK = 5 * SECOND


@dataclass
class Message:
    """One message: where it is, and when its row is looked at."""

    ticket: ActivityAttemptId
    check_at: int
    place: str = "queue"
    copies: int = 0


@dataclass
class World:
    """A store, a queue, and what workers have."""

    workers: int
    now: int = 1_000 * SECOND
    messages: list[Message] = field(default_factory=list)
    reported: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [f"w{number}" for number in range(self.workers)]
        self.reported = dict.fromkeys(names, self.now)
        self.hands = {name: Worker(self, name) for name in names}
        self.inquiries = {name: Inquiry(self, self.hands[name], name, LEASE) for name in names}

    # what an inquiry needs of a store

    def keep(
        self,
        activities: Collection[ActivityAttemptId],
        instances: Collection[str],
        delay: int,
        *,
        is_due: bool = True,
    ) -> None:
        for message in self.messages:
            if message.ticket in activities and message.check_at <= self.now:
                message.check_at = self.now + delay

    def report(self, worker: str, moment: int) -> None:
        self.reported[worker] = moment

    def reported_since(self, lease: int) -> int | None:
        return min(0 if moment > self.now else moment for moment in self.reported.values())

    # what happens

    def send(self) -> None:
        self.messages.append(
            Message(ActivityAttemptId("x", len(self.messages) + 1, 1), self.now + FIRST_CHECK)
        )

    def at(self, place: str) -> list[Message]:
        return [message for message in self.messages if message.place == place]

    def sweep(self, worker: str) -> None:
        """Send what is lost, as recovery does."""
        if not any(
            message.check_at <= self.now for message in self.messages if message.place != "done"
        ):
            self.inquiries[worker].rest()
            return
        lost = self.inquiries[worker].advance(self.now)
        for message in self.messages:
            if (
                message.place != "done"
                and message.check_at <= self.now
                and lost.has("q", message.check_at)
            ):
                assert message.place == "lost", (
                    f"{message} is sent again, and is in {message.place}"
                )
                message.check_at, message.copies, message.place = (
                    self.now + 10 * SECOND,
                    message.copies + 1,
                    "queue",
                )


@dataclass
class Worker:
    """One worker, whose main loop reads the wire when the generator lets it."""

    world: World
    name: str
    asked: int | None = None
    passed: bool = False

    @property
    def wire(self) -> str:
        return f"wire of {self.name}"

    def ask(self, now: int) -> None:
        self.asked, self.passed = now, False

    def answer(self) -> Hands | None:
        return (
            Hands({message.ticket for message in self.world.at(self.name)}) if self.passed else None
        )

    def depths(self) -> Mapping[str, int | None]:
        return {"q": len(self.world.at("queue"))}

    def deliver(self) -> None:
        for message in self.world.at("queue")[:1]:
            message.place = self.wire

    def loop(self) -> None:
        """Read everything that has come; that is what it is asked for."""
        for message in self.world.at(self.wire):
            message.place = self.name
        self.passed = True

    def work(self) -> None:
        for message in self.world.at(self.name)[:1]:
            message.place = "done"


STEPS = st.one_of(
    st.just(("send", 0)),
    st.tuples(
        st.sampled_from(["deliver", "loop", "work", "sweep", "sweep", "drop"]), st.integers(0, 2)
    ),
    st.tuples(st.just("wait"), st.integers(1, 20)),
)


@given(workers=st.integers(1, 3), steps=st.lists(STEPS, max_size=120))
@settings(max_examples=300)
def test_nothing_is_sent_again_that_is_anywhere(workers: int, steps: list[tuple[str, int]]) -> None:
    """The wire of a worker whose main loop does not turn counts as well, for a minute."""
    world, waited = World(workers), 0
    for name, number in steps:
        worker = world.hands[f"w{number % workers}"]
        if name == "send":
            world.send()
        elif name == "wait":
            waited += number
            if waited >= 50:  # a worker that is deaf for longer is not waited for
                for each in world.hands.values():
                    each.loop()
                waited = 0
            world.now += number * SECOND
        elif name == "sweep":
            world.now += 1
            world.sweep(worker.name)
        elif name == "drop":
            for message in world.at("queue")[:1]:
                message.place = "lost"
        else:
            getattr(worker, name)()


@given(workers=st.integers(1, 3), steps=st.lists(STEPS, max_size=60))
@settings(max_examples=100)
def test_what_is_lost_is_sent_again_soon(workers: int, steps: list[tuple[str, int]]) -> None:
    """Whatever was before: once the queue runs dry and all loops turn, four looks are enough."""
    world = World(workers)
    for name, number in steps:
        if name == "send":
            world.send()
        elif name == "wait":
            world.now += number * SECOND
        elif name in ("deliver", "loop", "work"):
            getattr(world.hands[f"w{number % workers}"], name)()
    for message in world.at("queue"):
        message.place = "lost"
    world.send()
    world.messages[-1].place = "lost"
    world.now += 20 * SECOND
    for _ in range(4):
        world.now += SECOND
        for name, worker in world.hands.items():
            worker.loop()
            world.sweep(name)
    assert world.messages[-1].copies == 1
    assert not world.at("lost")


def test_a_worker_that_is_cut_off_proves_nothing() -> None:
    world = World(1)
    world.hands["w0"].depths = dict  # type: ignore[assignment]
    inquiry = world.inquiries["w0"]
    for _ in range(5):
        world.now += 10 * SECOND
        world.hands["w0"].loop()
        assert not inquiry.advance(world.now).by_queue


def test_where_a_broker_does_not_tell_only_time_does() -> None:
    world = World(1)
    world.hands["w0"].depths = lambda: {"q": None}  # type: ignore[method-assign]
    lost = world.inquiries["w0"].advance(world.now)
    assert not lost.has("q", world.now - 59 * SECOND)
    assert lost.has("q", world.now - 61 * SECOND)


def test_a_clock_that_steps_back_takes_its_proofs_along() -> None:
    world = World(1)
    worker, inquiry = world.hands["w0"], world.inquiries["w0"]
    for _ in range(4):
        world.now += SECOND
        worker.loop()
        lost = inquiry.advance(world.now)
    assert lost.has("q", world.now - 2 * SECOND)
    world.now -= 500 * SECOND
    assert not inquiry.advance(world.now).has("q", world.now)
