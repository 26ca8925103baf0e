"""What the tab can do with an orchestration, and the forms that ask for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...engine.verbs import WITHOUT_REASON
from ...payload import check_json
from ...result import Orchestration

__all__ = ["VERBS", "Form", "Verb", "read_form"]

_LONGEST_REASON = 1000


@dataclass(frozen=True)
class Form:
    """What was filled in."""

    reason: str = ""
    event: str = ""
    data: Any = None


@dataclass(frozen=True)
class Verb:
    """One thing that can be done: its name, and what it does."""

    name: str
    label: str
    tells: str
    act: Callable[[Orchestration, Form], object]
    is_grave: bool = False

    @property
    def takes_reason(self) -> bool:
        """Whether history keeps a reason."""
        return self.name not in WITHOUT_REASON


_TABLE = (
    Verb("raise_event", "Raise event", "It gets the event at its next turn.",
         lambda run, form: run.raise_event(form.event, form.data)),
    Verb("suspend", "Suspend", "It takes no more turns; running activities finish, and what arrives is kept.",
         lambda run, form: run.suspend(reason=form.reason)),
    Verb("resume", "Resume", "It goes on, with what has arrived meanwhile.",
         lambda run, form: run.resume(reason=form.reason)),
    Verb("cancel", "Cancel", "Its code is asked to stop, and may clean up and compensate.",
         lambda run, form: run.cancel(reason=form.reason), is_grave=True),
    Verb("terminate", "Terminate", "It ends at once, with its sub-orchestrations. Nothing is compensated.",
         lambda run, form: run.terminate(reason=form.reason), is_grave=True),
    Verb("rewind", "Rewind", "What failed runs again; what succeeded is kept.",
         lambda run, form: run.rewind(reason=form.reason)),
    Verb("restart", "Restart", "It begins once more with the same input, in its own place: its history is deleted.",
         lambda run, form: run.restart(), is_grave=True),
    Verb("purge", "Purge", "It is deleted, with its history and its sub-orchestrations.",
         lambda run, form: run.purge(), is_grave=True),
)  # fmt: skip
#: All of them, in the order in which they are offered.
VERBS = {verb.name: verb for verb in _TABLE}


def read_form(verb: Verb, field: Callable[[str], str], user: str | None) -> Form:
    """Read the form of a verb.

    Args:
        verb: what is to be done.
        field: gives a field of the form, "" if it is missing.
        user: who asks; goes into the reason, if it is known.

    Raises:
        ValueError: something is missing or cannot be read.
    """
    if field("confirm") != "yes":
        raise ValueError(f"{verb.label}: tick the box to confirm it")
    if verb.name == "raise_event":
        if not (event := field("event").strip()):
            raise ValueError(f"{verb.label}: the name of the event is required")
        return Form(event=event, data=_json(field("data"), verb))
    reason = field("reason").strip()
    if verb.takes_reason and not reason:
        raise ValueError(f"{verb.label}: a reason is required, and is kept in history")
    if len(reason) > _LONGEST_REASON:
        raise ValueError(f"{verb.label}: a reason has at most {_LONGEST_REASON} characters, not {len(reason)}")
    return Form(reason + (f" (by {user}, in Flower)" if user else ""))


def _json(text: str, verb: Verb) -> Any:
    if not text.strip():
        return None
    try:
        found = json.loads(text)
        check_json(text)
    except ValueError as error:
        raise ValueError(f"{verb.label}: the data is no JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{verb.label}: the data is nested too deeply") from None
    return found
