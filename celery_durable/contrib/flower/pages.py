"""The pages of the tab: the list, one orchestration, what can be done with it, schedules and
entities.

A page reads in a thread (see ``reading``) and renders on Flower's loop. What goes wrong with the
store is a page that says so. Verbs are forms: POST, Flower's authentication, its token against
forged requests, a reason where the verb keeps one, and a tick that confirms. A read-only Flower
refuses them, and so does one that asks no user who he is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...core.status import RuntimeStatus
from ...engine.audit import acting
from ...engine.verb import Surface
from ...engine.verb import Verb as Row
from ...engine.verbs.events import RAISE_EVENT
from ...errors import DurableError, InstanceNotFound, InvalidState, StoreError
from ...handles.orchestration import Orchestration
from ...inspection.awaiting import EVENT, Awaited, awaited_by, awaited_of
from ...inspection.drawing import Links
from . import flower_compat, reading, reading_instance
from .verbs import EVENT_FIELD, flower_verbs, read_form

__all__ = ["EntitiesPage", "InstancePage", "ListPage", "SchedulesPage", "VerbPage"]

log: logging.Logger = logging.getLogger("celery_durable.flower")


def status_of(error: Exception) -> int:
    """Return the HTTP status that says what an error means."""
    match error:
        case InstanceNotFound():
            return 404
        case InvalidState():
            return 409
        case StoreError():
            return 503
        case ValueError():
            return 400
    return 500


class Page(flower_compat.TabHandler):
    """A page that tells what went wrong, as a page."""

    def show_error(self, error: Exception, title: str = "Orchestrations") -> None:
        """Answer with the page of an error."""
        status = status_of(error)
        if status >= 500:
            log.warning(
                "the tab cannot show %s: %s: %s", self.request.path, type(error).__name__, error
            )
        self.show(
            "trouble.html",
            status,
            title=title,
            error=str(error),
            is_store=isinstance(error, StoreError),
        )


class ListPage(Page):
    """``/orchestrations``: all of them, newest first, page by page."""

    @flower_compat.authenticated
    async def get(self) -> None:
        """Show one page of the list, or with ``part=1`` only its table."""
        query = reading.ListQuery(
            status=self.given("status"),
            name=self.given("name").strip(),
            prefix=self.given("prefix"),
            tags=self.given("tags").strip(),
            stuck=self.given("stuck") == "1",
            cursor=self.given("cursor"),
        )
        try:
            found = await self.off_loop(reading.read_list, self.durable, query)
        except (DurableError, ValueError) as error:
            self.show_error(error)
            return
        template = "list_part.html" if self.given("part") else "list.html"
        statuses = [str(status) for status in RuntimeStatus]
        self.show(
            template,
            query=query,
            found=found,
            statuses=statuses,
            has_purged=self.given("purged") == "1",
        )


class InstancePage(Page):
    """``/orchestrations/show?id=...``: one orchestration."""

    @flower_compat.authenticated
    async def get(self) -> None:
        """Show it, or with ``part=1`` only what changes."""
        await self.show_instance(self.given("id"))

    async def show_instance(
        self, instance_id: str, *, status: int = 200, problem: str = ""
    ) -> None:
        """Answer with the page of an orchestration; ``problem`` is what became of a verb."""
        until = self.given("until")
        try:
            if until and not until.isdecimal():
                raise ValueError(f"until is the number of an event, not {until[:40]!r}")
            found = await self.off_loop(
                reading_instance.read_instance,
                self.durable,
                instance_id,
                failed_only=self.given("failed") == "1",
                until=int(until[:12]) if until else None,
                links=self._links(instance_id),
            )
        except (DurableError, ValueError) as error:
            self.show_error(error, instance_id)
            return
        verbs = flower_verbs()
        template = "instance_part.html" if self.given("part") else "instance.html"
        self.show(
            template,
            status,
            it=found,
            verbs=[verbs[name] for name in found.verbs],
            problem=problem,
            done=verbs.get(self.given("done")),
            failed_only=self.given("failed") == "1",
            until=until,
        )

    def _links(self, instance_id: str) -> Links:
        """Return where the names and bars of the timeline lead to."""
        return Links(
            lambda id_: self.link(flower_compat.SHOW, id=id_),
            lambda number: self.event_link(instance_id, number),
        )


# -- what can be done ------------------------------------------------------------------------------


class VerbPage(InstancePage):
    """``POST /orchestrations/act?id=...``: do something with one orchestration."""

    def get(self) -> None:
        """Refuse: what changes something is never a link."""
        raise flower_compat.HTTPError(405)

    def check_xsrf_cookie(self) -> None:
        """Refuse those who may not steer before anything else is looked at."""
        if self.current_user is None or not self.is_protected:
            raise flower_compat.HTTPError(401)
        if self.is_read_only:
            raise flower_compat.HTTPError(403, "This Flower is read-only")
        super().check_xsrf_cookie()

    def prepare(self) -> None:
        """Check again: not every Flower has Tornado look for forged requests."""
        super().prepare()
        if self.request.method == "POST":
            self.check_xsrf_cookie()

    @flower_compat.authenticated
    async def post(self) -> None:
        """Do it, and lead back to the page of the orchestration."""
        instance_id, verb = self.given("id"), flower_verbs().get(self.posted("verb"))
        if verb is None:
            raise flower_compat.HTTPError(404, "There is no such verb")
        try:
            run = await self.off_loop(self.durable.get, instance_id)
            chosen = await self.off_loop(self._chosen, run)
            given = read_form(verb, self.posted, self.user, chosen.name if chosen else None)
            verb.row.refuse_entity(run.name, run.id)
            target = chosen.instance_id if chosen else run.id
            await self.off_loop(self._apply, verb.row, target, given)
        except StoreError as error:
            self.show_error(error, instance_id)
            return
        except (DurableError, ValueError) as error:
            status = 400 if status_of(error) == 500 else status_of(error)
            await self.show_instance(instance_id, status=status, problem=str(error))
            return
        log.info("%s of orchestration %r by %s", verb.name, instance_id, self.user or "a user")
        if verb.row.deletes:
            self.redirect(self.link(flower_compat.LIST, purged="1"), status=303)
        else:
            self.redirect(self.link(flower_compat.SHOW, id=instance_id, done=verb.name), status=303)

    def _chosen(self, run: Orchestration) -> Awaited | None:
        """Return which of the events that are waited for was chosen; None if none, or if another
        name was written.

        Raises:
            ValueError: that one is not waited for any more.
        """
        if self.posted("verb") != RAISE_EVENT.name or self.posted(EVENT_FIELD).strip():
            return None
        if not (value := self.posted("awaited")):
            return None
        if (found := awaited_of(value, awaited_by(run, EVENT))) is None:
            raise ValueError(
                "it does not wait for this event any more: look again, or write a name"
            )
        return found

    def _apply(self, row: Row, instance_id: str, given: Mapping[str, Any]) -> None:
        with acting(self.user, Surface.FLOWER, self.posted("reason").strip() or None):
            row.apply(self.durable.runtime.client, instance_id, given)


# -- the other lists -------------------------------------------------------------------------------


class SchedulesPage(Page):
    """``/orchestrations/schedules``: all schedules, by name."""

    @flower_compat.authenticated
    async def get(self) -> None:
        """Show them."""
        try:
            found = await self.off_loop(reading.read_schedules, self.durable)
        except DurableError as error:
            self.show_error(error)
            return
        self.show("schedules.html", schedules=found)


class EntitiesPage(Page):
    """``/orchestrations/entities``: entities with their state, those made last first."""

    @flower_compat.authenticated
    async def get(self) -> None:
        """Show one page of them."""
        name = self.given("name").strip()
        try:
            found, cursor = await self.off_loop(
                reading.read_entities, self.durable, name, self.given("cursor")
            )
        except (DurableError, ValueError) as error:
            self.show_error(error)
            return
        self.show("entities.html", entities=found, cursor=cursor, name=name)
