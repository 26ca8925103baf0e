"""What a client can do: start, look, and steer.

How a start is made is in ``engine.start``; what verbs do is in ``engine.verbs``, and what they
share in ``engine.control``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import completion
from .audit import HIDDEN, INSTANCE, actor
from .broadcast import raise_event_many
from .bulk import BulkResult
from .control import Control
from .forecast import Forecast
from .listing import Filters
from .start import Started, StartRequest
from .start_many import start_many
from .tagging import set_tags
from .verbs import VERBS, events, interventions, rewinding
from .writes import NewInbox, NewInstance

__all__ = ["Client"]


@dataclass(slots=True)
class Client(Control):
    """Starts and verbs, over a store, a publisher and the registry of this process.

    The verbs are written out for their types; ``apply`` takes any of the table.
    """

    # -- start -------------------------------------------------------------------------------------

    def start(self, request: StartRequest, session: Any = None) -> Started:
        """Start an orchestration; see ``Starter.start``."""
        if actor() is None:
            return self.runner.starter.start(request, session)
        shown = {
            "name": request.name,
            "version": request.version,
            "if_exists": None if request.if_exists == "return" else request.if_exists,
            "input": HIDDEN if request.args or request.kwargs else None,
        }
        target = request.instance_id
        with self.auditor.around(INSTANCE, target, "start", None, shown, session):
            return self.runner.starter.start(request, session)

    def start_many(
        self,
        requests: Sequence[StartRequest],
        session: Any = None,
        clock: Callable[[], int] | None = None,
    ) -> list[Started]:
        """Start orchestrations in one transaction; see ``engine.start_many``."""
        if actor() is None:
            return start_many(self.runner.starter, requests, session, clock)
        with self.auditor.around(INSTANCE, None, "start", None, {"input": HIDDEN}, session):
            return start_many(self.runner.starter, requests, session, clock)

    def prepare(self, request: StartRequest) -> NewInstance:
        """Check a request and return the rows that it makes; see ``Starter.build``."""
        return self.runner.starter.build(request)

    # -- steer -------------------------------------------------------------------------------------

    def apply(self, verb: str, instance_id: str, given: Mapping[str, Any]) -> object:
        """Apply a verb of the table to one orchestration; see ``Verb.apply``."""
        return VERBS[verb].apply(self, instance_id, given)

    def foresee(self, verb: str, instance_id: str, given: Mapping[str, Any]) -> object:
        """Return what a verb of the table would do; see ``Verb.foresee``."""
        return VERBS[verb].foresee(self, instance_id, given)

    def raise_event(
        self, instance_id: str, name: str, data: Any, event_id: str | None, session: Any = None
    ) -> None:
        """Raise an external event, within the caller's transaction where there is one."""
        if actor() is None:
            events.raise_event(self, instance_id, name, data, event_id, session)
            return
        given = {"name": name, "data": data, "event_id": event_id, "session": session}
        events.RAISE_EVENT.apply(self, instance_id, given)

    def set_tags(
        self, instance_id: str, tags: Mapping[str, str] | None, remove: Iterable[str] = ()
    ) -> None:
        """Set some tags of an instance, and remove others."""
        shown = {"tags": tags, "remove": list(remove) or None}
        with self.auditor.around(INSTANCE, instance_id, "set_tags", None, shown):
            set_tags(self, instance_id, tags, remove)

    def raise_event_many(
        self,
        filters: Filters,
        name: str,
        data: Any = None,
        event_id: str | None = None,
        *,
        limit: int | None = None,
        session: Any = None,
    ) -> BulkResult:
        """Raise an external event on all that match; see ``engine.broadcast``."""
        shown = {"name": name, "event_id": event_id, "data": HIDDEN}
        options: Any = {"limit": limit, "session": session}
        with self.auditor.around(INSTANCE, None, "raise_event", None, shown, session):
            return raise_event_many(self, filters, name, data, event_id, **options)

    def complete(self, token: str, value: Any, session: Any = None) -> bool:
        """Give an activity its result, by its token."""
        if actor() is None:
            return completion.complete(self, token, value, session)
        with self.auditor.around(INSTANCE, None, "complete", None, {"value": HIDDEN}, session):
            return completion.complete(self, token, value, session)

    def fail(self, token: str, error: BaseException | str, session: Any = None) -> bool:
        """Let an attempt of an activity have failed, by its token."""
        with self.auditor.around(INSTANCE, None, "fail", None, {"error": HIDDEN}, session):
            return completion.fail(self, token, error, session)

    def heartbeat(self, token: str, details: Any = None) -> bool:
        """Note that an activity makes progress, by its token."""
        return completion.heartbeat(self, token, details)

    def answer(self, instance_id: str, execution: str, name: str, data: Any, event_id: str) -> None:
        """Raise an external event if the instance still is in this execution."""
        shown = {"name": name, "event_id": event_id, "data": HIDDEN}
        with self.auditor.around(INSTANCE, instance_id, "raise_event", None, shown):
            events.answer(self, instance_id, execution, name, data, event_id)

    def event_message(
        self, instance_id: str, name: str, data: Any, event_id: str | None
    ) -> NewInbox:
        """Return the inbox row of an external event."""
        return events.event_message(self, instance_id, name, data, event_id)

    def suspend(self, instance_id: str, reason: str | None) -> None:
        """Stop taking turns; what arrives is kept for ``resume``."""
        self.apply("suspend", instance_id, {"reason": reason})

    def resume(self, instance_id: str, reason: str | None) -> None:
        """Continue after a suspension."""
        self.apply("resume", instance_id, {"reason": reason})

    def cancel(self, instance_id: str, reason: str | None) -> None:
        """Ask an orchestration to cancel itself; without effect on one that has ended."""
        self.apply("cancel", instance_id, {"reason": reason})

    def terminate(
        self, instance_id: str, reason: str | None, output: Any, *, recursive: bool = True
    ) -> None:
        """End an orchestration at once, with its children; without effect on one that has ended."""
        given = {"reason": reason, "output": output, "recursive": recursive}
        self.apply("terminate", instance_id, given)

    def rewind(self, instance_id: str, reason: str | None) -> None:
        """Let a failed orchestration run what failed again, and keep what has succeeded."""
        self.apply("rewind", instance_id, {"reason": reason})

    def forecast_rewind(self, instance_id: str) -> Forecast:
        """Tell what a rewind would do."""
        return rewinding.foresee_rewind(self, instance_id)

    def restart(self, instance_id: str, new_id: str | None) -> str:
        """Start an orchestration once more with the same input; return the id."""
        return str(self.apply("restart", instance_id, {"new_id": new_id}))

    def purge(self, instance_id: str, *, recursive: bool = True) -> None:
        """Delete a finished orchestration and its history; without effect if there is none."""
        self.apply("purge", instance_id, {"recursive": recursive})

    def fork(self, instance_id: str, at: int, new_id: str | None, reason: str | None) -> str:
        """Start another orchestration from a point in the history of this one; return its id."""
        given = {"at": at, "new_id": new_id, "reason": reason}
        return str(self.apply("fork", instance_id, given))

    def override(
        self,
        instance_id: str,
        command: int,
        result: Any,
        error: BaseException | None,
        reason: str | None,
        *,
        is_dry: bool = False,
    ) -> Forecast | None:
        """Give an activity or sub-orchestration an outcome from outside; or tell what would
        follow.
        """
        if is_dry:
            given = (self, instance_id, command, result, error, reason)
            return interventions.foresee_override(*given)
        named = {"call": command, "result": result, "error": error, "reason": reason}
        self.apply("override", instance_id, named)
        return None
