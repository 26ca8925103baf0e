"""What the tab can do with an orchestration, and the forms that ask for it: the verbs of the
engine's table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...engine.verb import Argument, Kind, Surface
from ...engine.verb import Verb as Row
from ...engine.verbs import offered_in
from ...engine.verbs.events import RAISE_EVENT

__all__ = ["EVENT_FIELD", "Field", "Verb", "flower_verbs", "read_form"]

_LONGEST_REASON = 1000
#: The field of the form of ``raise_event`` that a name is written in.
EVENT_FIELD = RAISE_EVENT.arguments[0].name_in(Surface.FLOWER)


@dataclass(frozen=True)
class Field:
    """A field of a verb's form."""

    argument: Argument

    @property
    def name(self) -> str:
        """Its name in the form."""
        return self.argument.name_in(Surface.FLOWER)

    @property
    def label(self) -> str:
        """What stands before it."""
        words = self.name.replace("_", " ").capitalize()
        return f"{words} (JSON)" if self.is_json else words

    @property
    def is_json(self) -> bool:
        """Whether it takes a JSON value."""
        return self.argument.kind is Kind.JSON

    @property
    def is_flag(self) -> bool:
        """Whether it is a box to tick."""
        return self.argument.kind is Kind.FLAG


@dataclass(frozen=True)
class Verb:
    """A verb as the tab shows it."""

    row: Row

    @property
    def name(self) -> str:
        """Its name in forms and addresses."""
        return self.row.name

    @property
    def label(self) -> str:
        """What its button says."""
        return self.row.words.label

    @property
    def meaning(self) -> str:
        """What it does."""
        return self.row.words.meaning_in(Surface.FLOWER)

    @property
    def is_destructive(self) -> bool:
        """Whether its button warns."""
        return self.row.is_destructive

    @property
    def keeps_reason(self) -> bool:
        """Whether history keeps a reason."""
        return self.row.keeps_reason

    @property
    def fields(self) -> list[Field]:
        """What its form asks for beside the reason."""
        return [Field(argument) for argument in self.row.arguments_in(Surface.FLOWER)]


def flower_verbs() -> dict[str, Verb]:
    """Return the verbs that the tab offers, by their names, in the table's order."""
    return {row.name: Verb(row) for row in offered_in(Surface.FLOWER)}


def read_form(
    verb: Verb, field: Callable[[str], str], user: str | None, event: str | None = None
) -> dict[str, Any]:
    """Read the form of a verb, and return its arguments and the reason.

    Args:
        verb: what is to be done.
        field: gives a field of the form, "" if it is missing.
        user: who asks; is added to the reason, if it is known.
        event: the name of an event that was chosen, in place of one that is written.

    Raises:
        ValueError: something is missing or cannot be read.
    """
    if field("confirm") != "yes":
        raise ValueError(f"{verb.label}: tick the box to confirm it")
    given = {
        each.argument.name: event
        if event is not None and each.name == EVENT_FIELD
        else _value(verb, each, field(each.name))
        for each in verb.fields
    }
    return given | ({"reason": _reason(verb, field, user)} if verb.keeps_reason else {})


def _reason(verb: Verb, field: Callable[[str], str], user: str | None) -> str:
    reason = field("reason").strip()
    if not reason:
        raise ValueError(f"{verb.label}: a reason is required, and is kept in history")
    if len(reason) > _LONGEST_REASON:
        raise ValueError(
            f"{verb.label}: a reason has at most {_LONGEST_REASON} characters, not {len(reason)}"
        )
    return reason + (f" (by {user}, in Flower)" if user else "")


def _value(verb: Verb, field: Field, text: str) -> Any:
    argument = field.argument
    if field.is_flag:
        return text == "yes"
    if field.is_json:
        return _json(text, verb, field)
    text = text.strip()
    if not text:
        if argument.is_required:
            raise ValueError(f"{verb.label}: {field.label} is required")
        return argument.default
    if argument.kind is Kind.NUMBER:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{verb.label}: {field.name} is a whole number") from None
    return RuntimeError(text) if argument.kind is Kind.ERROR else text


def _json(text: str, verb: Verb, field: Field) -> Any:
    if not text.strip():
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{verb.label}: the {field.name} is no JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{verb.label}: the {field.name} is nested too deeply") from None
    return found
