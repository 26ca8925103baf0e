"""What the admin can do to orchestrations: one table of verbs, and applying one of them to many, each reported by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from ....app import Durable
from ....core.status import RuntimeStatus
from ....engine.verbs import EFFECTS, WITHOUT_REASON, Effect, is_offered, refuse_for_entity, statuses_of
from ....errors import DurableError, InstanceNotFound, InvalidState, PayloadError, StoreError
from ....result import Orchestration

__all__ = ["MOST_AT_ONCE", "VERBS", "Outcome", "Target", "Verb", "apply", "matching_filters", "matching_ids", "targets"]

#: One request acts on so many orchestrations at most.
MOST_AT_ONCE = 500
_PAGE = 100


@dataclass(frozen=True)
class Verb:
    """A verb: its name is that of ``Orchestration``'s method, and begins its permission's."""

    name: str
    label: Any
    question: Any
    meaning: Any
    done: Any
    is_drastic: bool = False

    @property
    def keeps_reason(self) -> bool:
        """Whether the history of the orchestration keeps the reason."""
        return self.name not in WITHOUT_REASON

    @property
    def permission(self) -> str:
        """The codename of the permission that it needs."""
        return f"{self.name}_instance"

    def fits(self, run: Orchestration) -> bool:
        """Tell whether it acts on an orchestration or entity as it is."""
        return is_offered(self.name, run.name, run.runtime_status)


VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "suspend", _("Suspend"), _("Suspend orchestrations"),
            _("They stop taking turns. What arrives is kept, and running activities finish."), _("suspended"),
        ),
        Verb(
            "resume", _("Resume"), _("Resume orchestrations"),
            _("They go on; what has arrived meanwhile is delivered in order."), _("resumed"),
        ),
        Verb(
            "cancel", _("Cancel"), _("Cancel orchestrations"),
            _("Their code is asked to cancel at its current await: compensation runs before they end."),
            _("asked to cancel"), is_drastic=True,
        ),
        Verb(
            "terminate", _("Terminate"), _("Terminate orchestrations"),
            _("They end at once, with their sub-orchestrations. Compensation does not run."), _("terminated"), is_drastic=True,
        ),
        Verb(
            "rewind", _("Rewind"), _("Rewind failed orchestrations"),
            _("What failed runs again, with a fresh count of attempts; what has succeeded is kept."), _("rewound"),
        ),
        Verb(
            "restart", _("Restart"), _("Restart orchestrations"),
            _("They begin once more with the same input, on the newest version. The history of the old life is deleted."),
            _("restarted"), is_drastic=True,
        ),
        Verb(
            "raise_event", _("Raise event"), _("Raise an event on orchestrations"),
            _("The event waits for the orchestration until its code asks for it."), _("given the event"),
        ),
        Verb(
            "purge", _("Purge"), _("Purge finished orchestrations"),
            _("They are deleted, with their history and their finished sub-orchestrations. This cannot be undone."),
            _("purged"), is_drastic=True,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """An orchestration that was chosen; ``status`` is None if there is none of this id."""

    id: str
    status: RuntimeStatus | None
    note: Any = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a verb for one orchestration; ``refusal`` is why it was not done."""

    id: str
    refusal: str = ""
    had_no_effect: bool = False


def targets(durable: Durable, verb: Verb, ids: Sequence[str]) -> list[Target]:
    """Look at what was chosen, and say what the verb would do."""
    return [_target(durable, verb, id_) for id_ in ids]


def _target(durable: Durable, verb: Verb, instance_id: str) -> Target:
    try:
        status = durable.get(instance_id).runtime_status
    except (InstanceNotFound, ValueError):
        return Target(instance_id, None, _t("there is none"))
    notes = {
        Effect.ACTS: "",
        Effect.NOTHING: _t("nothing to do in this status"),
        Effect.REFUSED: _t("not possible in this status"),
    }
    return Target(instance_id, status, notes[EFFECTS[verb.name][status]])


def matching_filters(verb: Verb, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return filters that choose only those on which the verb acts, unless they choose by status themselves."""
    return {"status": [str(status) for status in statuses_of(verb.name)], **filters}


def matching_ids(durable: Durable, filters: Mapping[str, Any], most: int = MOST_AT_ONCE) -> list[str]:
    """Return the ids of the newest orchestrations that match."""
    found: list[str] = []
    cursor: str | None = None
    while len(found) < most:
        page = durable.find(limit=min(_PAGE, most - len(found)), cursor=cursor, **filters)
        found += [run.id for run in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def apply(
    durable: Durable, verb: Verb, ids: Sequence[str], reason: str, given: Mapping[str, Any], *, tells_all: bool
) -> list[Outcome]:
    """Apply a verb to each orchestration; one that refuses does not keep the others from it.

    Args:
        durable: where they are.
        verb: what to do.
        ids: to which.
        reason: kept in history where the verb keeps one.
        given: of an event, its ``event_name``, ``data`` and ``event_id``.
        tells_all: whether the texts of errors that may hold data are given.

    Raises:
        ValueError: the event cannot be raised on any, or its data cannot be encoded; nothing was done.
    """
    outcomes: list[Outcome] = []
    for id_ in ids:
        try:
            run = durable.get(id_)
        except (InstanceNotFound, ValueError) as refusal:
            outcomes.append(Outcome(id_, str(refusal)))
            continue
        except StoreError as problem:
            return outcomes + _all_refused(ids[len(outcomes) :], problem, tells_all)
        try:
            outcomes.append(_apply(run, verb, reason, given))
        except (InvalidState, InstanceNotFound) as refusal:
            outcomes.append(Outcome(id_, str(refusal)))
        except StoreError as problem:
            return outcomes + _all_refused(ids[len(outcomes) :], problem, tells_all)
        except DurableError as problem:
            if verb.name == "raise_event" and isinstance(problem, PayloadError):
                raise
            outcomes += _all_refused([id_], problem, tells_all)
    return outcomes


def _all_refused(ids: Sequence[str], problem: DurableError, tells_all: bool) -> list[Outcome]:
    text = str(problem) if tells_all else type(problem).__name__
    return [Outcome(id_, _t("orchestration %(id)r: %(problem)s") % {"id": id_, "problem": text}) for id_ in ids]


def _apply(run: Orchestration, verb: Verb, reason: str, given: Mapping[str, Any]) -> Outcome:
    refuse_for_entity(verb.name, run.name, run.id)
    had_no_effect = EFFECTS[verb.name][run.runtime_status] is Effect.NOTHING
    if verb.name == "raise_event":
        run.raise_event(given["event_name"], given["data"], given["event_id"] or None)
    else:
        method: Callable[..., Any] = getattr(run, verb.name)
        method(**({"reason": reason} if verb.keeps_reason else {}))
    return Outcome(run.id, had_no_effect=had_no_effect)
