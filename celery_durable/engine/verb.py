"""What a row of the table of verbs says: in which statuses a verb acts, what it takes, where it is
offered, and in which words.

The rows are in ``engine.verbs``. Everything that offers verbs is made from them: commands, HTTP
routes, the admin's actions, Flower's buttons, verbs for many, and the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .._errors import InvalidState
from ..core.entity import ORCHESTRATORS
from ..core.flags import check_flags, is_whole
from ..core.names import check_reason
from ..core.status import MOVING, RuntimeStatus
from .audit import HIDDEN, INSTANCE, actor

__all__ = [
    "ENDED",
    "EVERYWHERE",
    "LIVE",
    "N_",
    "RECURSIVE",
    "Argument",
    "Effect",
    "Kind",
    "Surface",
    "Verb",
    "Words",
    "refusal",
]

Statuses = tuple[RuntimeStatus, ...]
LIVE: Statuses = (*MOVING, RuntimeStatus.SUSPENDED)
ENDED: Statuses = tuple(status for status in RuntimeStatus if status.is_terminal)


def refusal(verb: str, needed: Statuses, status: RuntimeStatus, instance_id: str) -> InvalidState:
    """Return the error of a verb that is refused in a status."""
    return InvalidState(
        f"orchestration {instance_id!r} is {status}: {verb} needs one that is {_or(needed)}",
        instance_id=instance_id,
        status=status,
        verb=verb,
        needed=needed,
    )


def N_(text: str) -> str:  # noqa: N802  the usual name of what only marks a text
    """Mark a text for translation where it is shown."""
    return text


class Effect(StrEnum):
    """What becomes of a verb."""

    ACTS = "acts"
    NOTHING = "no effect"
    REFUSED = "refused"


class Surface(StrEnum):
    """Where verbs are offered."""

    CODE = "code"
    CLI = "cli"
    HTTP = "http"
    ADMIN = "admin"
    FLOWER = "flower"


EVERYWHERE = frozenset(Surface)


class Kind(StrEnum):
    """What an argument is; each surface reads it in its own way."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    JSON = "json"  #: Any value that can be encoded.
    ERROR = "error"  #: An exception; where only text can be given, a RuntimeError of it.


@dataclass(frozen=True)
class Argument:
    """One thing that a verb takes beside the id and the reason."""

    #: As the verb's function and the method of ``Orchestration`` take it.
    name: str
    kind: Kind
    #: What it is, as the command line and the OpenAPI document say it.
    help: str = ""
    #: What it is if it is left out.
    default: Any = None
    is_required: bool = False
    #: Whether the command line takes it by its place; else it is an option.
    is_positional: bool = False
    #: Of a flag that is set by default: the option that unsets it, without dashes.
    off: str = ""
    #: Heads its field in a form; "" derives it from the name.
    label: str = ""
    #: Stands below its field in a form.
    hint: str = ""
    #: Characters that a form takes.
    longest: int = 200
    offered_in: frozenset[Surface] = EVERYWHERE
    #: Its name where a surface has another one.
    names: Mapping[Surface, str] = field(default_factory=dict)

    def check(self, value: object) -> None:
        """Refuse a value of another kind; what text may be, the verb's function knows.

        Raises:
            TypeError: it is of another kind.
        """
        if self.kind is Kind.FLAG:
            check_flags(**{self.name: value})
        elif self.kind is Kind.NUMBER and not is_whole(value):
            raise TypeError(f"{self.name} must be a whole number, not {value!r}")

    def name_in(self, surface: Surface) -> str:
        """Return its name in a surface."""
        return self.names.get(surface, self.name)

    def label_in(self, surface: Surface) -> str:
        """Return what heads its field in a form."""
        return self.label or self.name_in(surface).replace("_", " ").capitalize()


#: Of verbs that reach the sub-orchestrations too.
RECURSIVE = Argument(
    "recursive",
    Kind.FLAG,
    "With its sub-orchestrations, or without.",
    default=True,
    off="alone",
    offered_in=frozenset({Surface.CODE, Surface.CLI}),
)


@dataclass(frozen=True)
class Words:
    """What people read of a verb, in English; the admin translates it."""

    #: On a button.
    label: str
    #: Heads the page that asks for confirmation.
    question: str
    #: What becomes of those that were chosen.
    meaning: str
    #: What was done to them: "3 orchestrations were suspended".
    done: str
    #: What the method does, for the reference; "" is the meaning.
    reference: str = ""
    #: What the command line says when it was done, formatted with the arguments; None is ``done``,
    #: and "" nothing.
    reported: str | None = None
    #: What its permission allows, after "Can "; "" is its label, and "orchestrations".
    permits: str = ""
    #: The meaning where a surface has a text of its own.
    texts: Mapping[Surface, str] = field(default_factory=dict)

    def meaning_in(self, surface: Surface) -> str:
        """Return what the verb does, as a surface says it."""
        return self.texts.get(surface, self.meaning)


@dataclass(frozen=True)
class Verb:
    """One row of the table."""

    #: Of the method of ``Orchestration``; begins the permission's.
    name: str
    #: In all statuses that are in neither of the two, the verb is refused.
    acts_in: Statuses
    ignored_in: Statuses
    words: Words
    #: ``function(control, instance_id, **arguments)``, with ``reason`` if the verb keeps one.
    function: Callable[..., object]
    arguments: tuple[Argument, ...] = ()
    #: Tells what a verb would do: called as the function is. None: there is no dry run.
    forecast: Callable[..., object] | None = None
    #: Whether history keeps why it was used.
    keeps_reason: bool = True
    #: Whether entities take it; the others reach code that an entity has not.
    for_entities: bool = False
    #: Whether something is lost by it: surfaces warn.
    is_destructive: bool = False
    #: Whether nothing is left of those that it acted on.
    deletes: bool = False
    #: Whether it is offered for all that match filters.
    is_bulk: bool = True
    offered_in: frozenset[Surface] = EVERYWHERE
    #: Of the command; "" is the verb's name.
    command: str = ""

    @property
    def permission(self) -> str:
        """The codename of the permission that it needs; databases hold it, so it never changes."""
        return f"{self.name}_instance"

    @property
    def permission_text(self) -> str:
        """What its permission allows; migrations hold it, so it never changes."""
        return f"Can {self.words.permits or f'{self.words.label.lower()} orchestrations'}"

    def effect_in(self, status: RuntimeStatus) -> Effect:
        """Return what becomes of it in a status."""
        if status in self.acts_in:
            return Effect.ACTS
        return Effect.NOTHING if status in self.ignored_in else Effect.REFUSED

    def acts(self, status: RuntimeStatus, instance_id: str) -> bool:
        """Tell whether it does anything in a status.

        Raises:
            InvalidState: it is refused; the text names the status that was found and those that are
                needed.
        """
        effect = self.effect_in(status)
        if effect is Effect.REFUSED:
            raise refusal(self.name, self.acts_in, status, instance_id)
        return effect is Effect.ACTS

    def is_offered(self, orchestrator: str, status: RuntimeStatus) -> bool:
        """Tell whether it does anything for an instance of this orchestrator in a status."""
        return status in self.acts_in and self._is_for(orchestrator)

    def refuse_entity(self, orchestrator: str, instance_id: str) -> None:
        """Refuse an entity, if the verb is for orchestrations alone.

        Raises:
            InvalidState: the instance of this orchestrator is an entity.
        """
        if not self._is_for(orchestrator):
            raise InvalidState(
                f"{instance_id!r} is an entity: {self.name} is for orchestrations",
                instance_id=instance_id,
            )

    def _is_for(self, orchestrator: str) -> bool:
        return self.for_entities or not orchestrator.startswith(ORCHESTRATORS)

    def arguments_in(self, surface: Surface) -> tuple[Argument, ...]:
        """Return the arguments that a surface offers."""
        return tuple(each for each in self.arguments if surface in each.offered_in)

    def apply(self, control: Any, instance_id: str, given: Mapping[str, Any]) -> object:
        """Apply it to one orchestration, and return what its function returns.

        Args:
            control: what the functions of verbs share; see ``engine.control``.
            instance_id: of the orchestration.
            given: the arguments by their names, and ``reason``; what is left out has its default.

        Raises:
            InvalidState: it is refused in this status.
            InstanceNotFound: there is no such orchestration.
            TypeError, ValueError: an argument, or the reason, cannot be used.
        """
        filled = self.filled(given)
        if actor() is None:
            return self.function(control, instance_id, **filled)
        shown, reason = self.shown(filled), filled.get("reason")
        session = filled.get("session")
        with control.auditor.around(INSTANCE, instance_id, self.name, reason, shown, session):
            return self.function(control, instance_id, **filled)

    def shown(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the audit trail keeps them: none that is a payload, and none that
        is what it would be if it were left out.
        """
        found: dict[str, Any] = {}
        for each in self.arguments:
            if (value := given.get(each.name)) is None:
                continue
            if each.kind in (Kind.JSON, Kind.ERROR):
                found[each.name] = HIDDEN
            elif value != each.default:
                found[each.name] = value
        return found

    def foresee(self, control: Any, instance_id: str, given: Mapping[str, Any]) -> object:
        """Return what it would do, as ``apply`` is called; only with a ``forecast``."""
        assert self.forecast is not None
        return self.forecast(control, instance_id, **self.filled(given))

    def filled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that are given, with the defaults of all others.

        Raises:
            TypeError, ValueError: one of them, or the reason, cannot be used.
        """
        defaults = {each.name: each.default for each in self.arguments if not each.is_required}
        reason = {"reason": None} if self.keeps_reason else {}
        filled = defaults | reason | dict(given)
        for each in self.arguments:
            if each.name in filled:
                each.check(filled[each.name])
        check_reason(filled.get("reason"))
        return filled


def _or(statuses: Sequence[RuntimeStatus]) -> str:
    names = [str(status) for status in statuses]
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
