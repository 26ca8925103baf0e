"""What the tests of all verbs share: a process over a store in which every status is met, and what
each verb must do whatever it is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from celery_durable.core.guard import running_orchestrator
from celery_durable.core.history import Event
from celery_durable.core.retry import RetryPolicy
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.audit import NOTHING, REFUSED, AuditFilters, acting
from celery_durable.engine.verb import Effect, Surface, Verb
from celery_durable.engine.verbs import VERBS
from celery_durable.errors import DurableError, InstanceNotFound, InvalidState
from celery_durable.settings import Settings
from celery_durable.store import open_store
from tests.contract.builders import everything, inbox, rows
from tests.contract.world import World, sig

__all__ = ["EMPTY", "OfVerb", "Scene", "opened"]

EMPTY = "never"  #: An id that nothing has.


class Scene(World):
    """A process, and looks at what a verb has written."""

    def bring_one_to_each_status(self) -> None:
        """Start an orchestration for each status, whose id is the status."""
        for status in RuntimeStatus:
            self.bring_to(status, str(status))

    def bring_to(self, status: RuntimeStatus, id_: str) -> None:
        """Start an orchestration, and bring it into a status.

        Its call 1 has its outcome, and 2 has failed and is to be tried again. One that is to fail
        does so by its call 4, and 5 has no outcome then.
        """
        self.start("sale", id_=id_)
        if status is RuntimeStatus.PENDING:
            self.publisher.turns.clear()
            return
        self.pump()
        if status is RuntimeStatus.COMPLETED or status is RuntimeStatus.FAILED:
            self.raise_event(id_, "go", str(status))
        elif status is not RuntimeStatus.RUNNING:
            name = {"SUSPENDED": "suspend", "CANCELED": "cancel", "TERMINATED": "terminate"}[status]
            self.apply(name, id_, reason="first")
        self.pump()
        assert self.status(id_) is status

    def apply(self, verb: str, id_: str, **given: Any) -> Any:
        """Apply a verb as every surface does."""
        return VERBS[verb].apply(self.client, id_, given)

    def last_event(self, id_: str) -> Event:
        return self.events(id_)[-1]

    def inbox(self, id_: str, kind: str | None = None) -> list[dict[str, Any]]:
        found = rows(self.store, "inbox", inbox.c.instance == id_)
        return [row for row in found if kind in (None, row["kind"])]

    def turns_sent(self) -> list[str]:
        """Return the instances for which a turn was sent, and forget them."""
        sent = [address.id for address, *_ in self.publisher.turns]
        self.publisher.turns.clear()
        return sent


def declare(world: World) -> None:
    """Declare what runs in the scene."""

    @world.task
    def charge() -> int:
        return 1

    @world.task
    def flaky() -> None:
        raise OSError

    @world.task
    def fails() -> None:
        raise ValueError

    @world.orchestrator
    async def sale(ctx: Any) -> Any:
        charged = await ctx.call(sig("charge"))
        shipped = ctx.call(sig("flaky"), retry=RetryPolicy(max_attempts=9, first_interval=3600))
        if await ctx.wait_event("go") == "FAILED":
            failing = ctx.call(sig("fails"))
            ctx.call(sig("charge"))
            await failing
        return [charged, shipped.done()]

    @world.orchestrator
    async def part(ctx: Any) -> Any:
        return await ctx.wait_event("go")

    @world.orchestrator
    async def whole(ctx: Any) -> Any:
        return await ctx.call(sig("part", task_id=f"{ctx.instance_id}.part"))


@contextmanager
def opened(path: Path) -> Iterator[Scene]:
    """Open the store in a file."""
    store = open_store(Settings(backend_url=f"sqlite:///{path}"))
    try:
        scene = Scene(store)
        declare(scene)
        yield scene
    finally:
        store.database.dispose()


class OfVerb:
    """What is tested of each verb. The class of one says what is in its row, and gives it what it
    needs.
    """

    name: ClassVar[str]
    #: The statuses in which it acts, and in which it has no effect; all others refuse it.
    acts_in: ClassVar[str]
    ignored_in: ClassVar[str] = ""
    #: What it needs, and has no default.
    given: ClassVar[Mapping[str, Any]] = {}
    #: As databases hold it.
    permission: ClassVar[str]
    #: Where it is not offered.
    left_out: ClassVar[frozenset[Surface]] = frozenset()
    for_entities: ClassVar[bool] = False
    is_destructive: ClassVar[bool] = False
    is_bulk: ClassVar[bool] = True
    #: Whether one that is not there is no error.
    may_be_gone: ClassVar[bool] = False

    @property
    def verb(self) -> Verb:
        return VERBS[self.name]

    def effect_in(self, status: RuntimeStatus) -> Effect:
        if status in self.acts_in.split():
            return Effect.ACTS
        return Effect.NOTHING if status in self.ignored_in.split() else Effect.REFUSED

    @pytest.mark.parametrize("status", list(RuntimeStatus), ids=str)
    def test_does_in_every_status_what_its_row_says(
        self, scene: Scene, status: RuntimeStatus
    ) -> None:
        expected = self.effect_in(status)
        assert self.verb.effect_in(status) is expected
        before = everything(scene.store)
        with acting("ann", "code", "because"):
            if expected is Effect.REFUSED:
                with pytest.raises(InvalidState) as refusal:
                    scene.apply(self.name, status, **self.given)
                self.is_whole(refusal.value, status)
            else:
                scene.apply(self.name, status, **self.given)
        assert (everything(scene.store) != before) == (expected is Effect.ACTS)
        if expected is not Effect.ACTS:
            assert scene.publisher.finished == []
        [entry] = self.audited(scene, status)
        found = {NOTHING: Effect.NOTHING, REFUSED: Effect.REFUSED}.get(entry.effect, Effect.ACTS)
        assert (entry.actor, entry.reason, found) == ("ann", "because", expected)

    def is_whole(self, refusal: InvalidState, status: RuntimeStatus) -> None:
        """Hold that a refusal says what was found, and what is needed."""
        needed = self.verb.acts_in
        assert refusal.facts == {
            "instance_id": status,
            "status": status,
            "verb": self.name,
            "needed": needed,
        }
        assert all(str(each) in str(refusal) for each in (status, *needed))

    def audited(self, scene: Scene, id_: str) -> list[Any]:
        found, _ = scene.store.audit.read(AuditFilters(verb=self.name), 10, None)
        return [each for each in found if each.target == id_]

    def test_one_that_is_not_there_is_named(self, scene: Scene) -> None:
        before = everything(scene.store)
        if self.may_be_gone:
            scene.apply(self.name, EMPTY, **self.given)
        else:
            with pytest.raises(InstanceNotFound, match=repr(EMPTY)):
                scene.apply(self.name, EMPTY, **self.given)
        assert everything(scene.store) == before
        assert scene.turns_sent() == []

    def test_code_of_an_orchestrator_may_not_use_it(self, scene: Scene) -> None:
        before = everything(scene.store)
        status = self.acts_in.split()[-1]
        with (
            running_orchestrator("x"),
            pytest.raises(DurableError, match="inside orchestrator 'x'"),
        ):
            scene.apply(self.name, status, **self.given)
        assert everything(scene.store) == before

    def test_says_who_may_use_it_and_where(self) -> None:
        verb = self.verb
        assert verb.permission_text == self.permission
        assert frozenset(Surface) - verb.offered_in == self.left_out
        assert verb.for_entities == self.for_entities
        assert verb.is_destructive == self.is_destructive
        assert verb.is_bulk == self.is_bulk

    def test_is_told_in_whole_sentences(self) -> None:
        words = self.verb.words
        sentences = {words.meaning, words.reference or words.meaning}
        sentences |= {words.meaning_in(surface) for surface in self.verb.offered_in}
        assert all(each[0].isupper() or each[0] == "`" for each in sentences)
        assert all(each.endswith(".") for each in sentences)
        assert set(words.texts) <= self.verb.offered_in
        assert words.label[0].isupper() and words.question[0].isupper()
        assert words.done[0].islower()  # "3 orchestrations were ..."
        names = {each.name: each.name for each in self.verb.arguments}
        assert "{" not in (words.reported or "").format(**names)
