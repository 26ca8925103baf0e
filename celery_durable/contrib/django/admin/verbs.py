"""What the admin can do to orchestrations: the verbs of the engine's table, translated, and
applying one of them to many, each reported by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _t

from ....app.durable import Durable
from ....core.status import RuntimeStatus
from ....engine.verb import Effect, Surface
from ....engine.verb import Verb as Row
from ....engine.verbs import offered_in
from ....errors import DurableError, InstanceNotFound, InvalidState, PayloadError, StoreError
from ....handles.orchestration import Orchestration

__all__ = [
    "MOST_AT_ONCE",
    "Outcome",
    "Target",
    "Verb",
    "admin_verbs",
    "apply",
    "matching_filters",
    "matching_ids",
    "targets",
]

#: One request acts on so many orchestrations at most.
MOST_AT_ONCE = 500
_PAGE = 100


@dataclass(frozen=True)
class Verb:
    """A verb as the admin shows it, in the language of the request."""

    row: Row

    @property
    def name(self) -> str:
        """That of ``Orchestration``'s method."""
        return self.row.name

    @property
    def label(self) -> str:
        """What its button says."""
        return str(_t(self.row.words.label))

    @property
    def question(self) -> str:
        """What heads its confirmation page."""
        return str(_t(self.row.words.question))

    @property
    def meaning(self) -> str:
        """What becomes of those that were chosen."""
        return str(_t(self.row.words.meaning_in(Surface.ADMIN)))

    @property
    def done(self) -> str:
        """What was done to them."""
        return str(_t(self.row.words.done))

    @property
    def is_drastic(self) -> bool:
        """Whether its button warns."""
        return self.row.is_destructive

    @property
    def keeps_reason(self) -> bool:
        """Whether the history of the orchestration keeps the reason."""
        return self.row.keeps_reason

    @property
    def permission(self) -> str:
        """The codename of the permission that it needs."""
        return self.row.permission

    def fits(self, run: Orchestration) -> bool:
        """Tell whether it acts on an orchestration or entity as it is."""
        return self.row.is_offered(run.name, run.runtime_status)


def admin_verbs() -> dict[str, Verb]:
    """Return the verbs that the admin offers, by their names: those that ask for more than a reason
    after the others, and those that delete last.
    """
    rows = sorted(
        offered_in(Surface.ADMIN),
        key=lambda row: (row.deletes, bool(row.arguments_in(Surface.ADMIN))),
    )
    return {row.name: Verb(row) for row in rows}


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
    return Target(instance_id, status, notes[verb.row.effect_in(status)])


def matching_filters(verb: Verb, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return filters that choose only those on which the verb acts, unless they choose by status
    themselves.
    """
    return {"status": [str(status) for status in verb.row.acts_in], **filters}


def matching_ids(
    durable: Durable, filters: Mapping[str, Any], most: int = MOST_AT_ONCE
) -> list[str]:
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
    durable: Durable,
    verb: Verb,
    ids: Sequence[str],
    reason: str,
    given: Mapping[str, Any],
    *,
    shows_errors: bool,
) -> list[Outcome]:
    """Apply a verb to each orchestration; one that refuses does not keep the others from it.

    Args:
        durable: where they are.
        verb: what to do.
        ids: to which.
        reason: kept in history where the verb keeps one.
        given: the arguments of the verb.
        shows_errors: whether the texts of errors that may hold data are given.

    Raises:
        ValueError: the arguments cannot be used on any, or cannot be encoded; nothing was done.
    """
    outcomes: list[Outcome] = []
    reasons = {"reason": reason} if verb.keeps_reason else {}
    for id_ in ids:
        try:
            run = durable.get(id_)
        except (InstanceNotFound, ValueError) as refusal:
            outcomes.append(Outcome(id_, str(refusal)))
            continue
        except StoreError as problem:
            return outcomes + _all_refused(ids[len(outcomes) :], problem, shows_errors)
        try:
            outcomes.append(_apply(durable, run, verb, {**given, **reasons}))
        except (InvalidState, InstanceNotFound) as refusal:
            outcomes.append(Outcome(id_, str(refusal)))
        except StoreError as problem:
            return outcomes + _all_refused(ids[len(outcomes) :], problem, shows_errors)
        except DurableError as problem:
            if given and isinstance(problem, PayloadError):
                raise
            outcomes += _all_refused([id_], problem, shows_errors)
    return outcomes


def _all_refused(ids: Sequence[str], problem: DurableError, shows_errors: bool) -> list[Outcome]:
    text = str(problem) if shows_errors else type(problem).__name__
    return [
        Outcome(id_, _t("orchestration %(id)r: %(problem)s") % {"id": id_, "problem": text})
        for id_ in ids
    ]


def _apply(durable: Durable, run: Orchestration, verb: Verb, given: Mapping[str, Any]) -> Outcome:
    verb.row.refuse_entity(run.name, run.id)
    had_no_effect = verb.row.effect_in(run.runtime_status) is Effect.NOTHING
    verb.row.apply(durable.runtime.client, run.id, given)
    return Outcome(run.id, had_no_effect=had_no_effect)
