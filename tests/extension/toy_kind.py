"""A kind of command from outside: an oracle that answers questions, as a plug-in would bring it.

``plugged_in`` adds it to the registry of kinds and to the compilers, which is all there is to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from celery_durable.core.commands import Command
from celery_durable.core.guard import in_turn
from celery_durable.core.history import Event, add_event_kind
from celery_durable.core.kinds import KINDS, ContextPart, Kind, Reissue
from celery_durable.core.kinds.kind import failure_of
from celery_durable.core.ports import Host
from celery_durable.engine.compilers import COMPILERS
from celery_durable.engine.draft import CHECK_AFTER, CommitDraft
from celery_durable.engine.writes import NewInbox

# -- the core's part -------------------------------------------------------------------------------

ASKED, ANSWERED, FAILED = map(add_event_kind, ("OracleAsked", "OracleAnswered", "OracleFailed"))


@dataclass(slots=True)
class AskOracle(Command):
    """Ask the oracle something."""

    confirmed_by: ClassVar[str] = ASKED
    question: str

    @property
    def label(self) -> str:
        """Return the question."""
        return self.question


class Oracle(Kind):
    """The questions that the oracle has not answered."""

    name = "oracle"
    commands = (AskOracle,)
    inputs: ClassVar[Mapping[str, type[Command] | None]] = {ANSWERED: AskOracle, FAILED: AskOracle}

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.open: dict[int, tuple[str, asyncio.Future[Any]]] = {}

    def ask(self, question: str) -> asyncio.Future[Any]:
        """Ask, and return a future of the answer."""
        number = self.host.next_number()
        self.open[number] = question, self.host.loop.create_future()
        self.host.ask(AskOracle(number, question))
        return self.open[number][1]

    def is_wanted(self, event: Event) -> bool:
        return event.command in self.open

    def prepare(self, event: Event) -> Event:
        if event.kind != FAILED:
            return event
        _, is_rebuilt = self.host.codec.decode_failure(event.payload or "")
        return event._replace(facts={**(event.facts or {}), "rebuilt": is_rebuilt})

    def resolve(self, event: Event) -> None:
        _, future = self.open.pop(event.command)
        if future.done():
            return
        if event.kind == FAILED:
            error = failure_of(self.host, event, event.payload or "")
            self.host.note_failure(event.command, error)
            future.set_exception(error)
        else:
            future.set_result(self.host.codec.decode(event.payload or "null"))

    def is_waiting(self) -> bool:
        return bool(self.open)

    def waits_for(self) -> list[str]:
        return [f"the oracle: {question!r}" for question, _ in self.open.values()]

    def cancel_all(self) -> None:
        for _, future in self.open.values():
            future.cancel()

    def reissue(self, plan: Reissue) -> None:
        for number, (question, _) in sorted(self.open.items(), key=lambda item: item[0]):
            self.host.ask(AskOracle(number, question))


class OracleContext(ContextPart):
    """What it adds to ``ctx``."""

    @in_turn
    def ask_oracle(self, question: str) -> asyncio.Future[Any]:
        """Ask the oracle."""
        return self._host.of(Oracle).ask(question)


Oracle.context = OracleContext
WITH_ORACLE = KINDS.with_kinds(Oracle)

# -- the engine's part -----------------------------------------------------------------------------

#: Question -> what the oracle answers next; a question that is not here waits for its answer.
ANSWERS: dict[str, list[Any]] = {}


def answer_of(command: AskOracle, draft: CommitDraft, answer: Any) -> NewInbox:
    """Return the message that answers a question, into the inbox of the instance that asked."""
    has_failed, codec = isinstance(answer, BaseException), draft.codec
    return NewInbox(
        draft.commit.instance_id,
        FAILED if has_failed else ANSWERED,
        f"oracle:{draft.execution}:{command.command}",
        execution=draft.execution,
        command=command.command,
        payload=codec.encode_failure(answer) if has_failed else codec.encode(answer),
        visible_at=draft.snapshot.now,
        check_after=CHECK_AFTER,
    )


def ask_oracle(draft: CommitDraft, command: AskOracle) -> None:
    """Put the answer into the own inbox, if the oracle has one."""
    if answers := ANSWERS.get(command.question):
        draft.commit.own_inbox.append(answer_of(command, draft, answers.pop(0)))


@contextmanager
def plugged_in() -> Iterator[None]:
    """Add the kind, as a plug-in would; take it away again after a test."""
    before = {name: copy(value) for name, value in vars(KINDS).items()}
    KINDS.add(Oracle)
    COMPILERS[AskOracle] = ask_oracle
    ANSWERS.clear()
    try:
        yield
    finally:
        del COMPILERS[AskOracle]
        for name, value in vars(KINDS).items():
            if isinstance(value, (dict, set)):  # others refer to these very objects
                value.clear()
                value.update(before[name])
        KINDS.kinds = before["kinds"]
