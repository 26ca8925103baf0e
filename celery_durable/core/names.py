"""What may be a name, and whose it is. Pure.

All that Celery carries for us has a task id, and all that the store keeps for itself an instance
id. They are told apart by their looks alone, so no id may look like one of another kind:

* an attempt of an activity: ``d-<20 hex digits>-<call>-<attempt>``, given by the engine alone;
* an entity: ``@<name>@<key>``, given by its first message; a name has no ``@``;
* a tick of a schedule: ``<schedule>@<time>`` or ``<schedule>@manual-<hex>``, given by the schedule,
  whose name does not begin with ``@``;
* any other orchestration: anything else, of 1 to 150 characters, given by its caller or the engine.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

__all__ = [
    "ENTITY_NAME",
    "LONGEST_EVENT",
    "LONGEST_ID",
    "LONGEST_NAME",
    "LONGEST_VERSION",
    "ActivityAttemptId",
    "check_instance_id",
    "check_new_id",
    "check_reason",
    "check_text",
    "checked_key",
    "checked_name",
    "checked_text",
    "next_id",
    "parts_of_id",
    "request_key",
]

LONGEST_ID = 150
#: Of a task, an orchestrator, a queue, and the id of a canvas's first task.
LONGEST_NAME = 200
LONGEST_VERSION = 50
#: Of an external event or a request, and of its id.
LONGEST_EVENT = 100_000
_TICKET = re.compile(r"d-([0-9a-f]{20})-([0-9]{1,9})-([0-9]{1,9})", re.ASCII)
#: The name of a class of entities.
ENTITY_NAME = re.compile(r"[^\W\d][\w.-]*")


# -- text ------------------------------------------------------------------------------------------


def check_text(what: str, value: Any) -> None:
    """Refuse what no column holds.

    Raises:
        TypeError: it is no string.
        ValueError: it has halves of characters (surrogates).
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is a string, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be valid Unicode; {value[:40]!r} is not") from None


def check_reason(reason: Any) -> None:
    """Refuse what cannot be the reason of a verb; None is none.

    It is for people, and may be the text of any error: what no column takes of it is replaced where
    it is stored, so that no verb fails by its reason.

    Raises:
        TypeError: it is no string.
    """
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"a reason is a string, not {type(reason).__name__}")


def checked_name(name: Any, what: str, limit: int = LONGEST_NAME) -> str:
    """Return a name that every store can keep.

    Args:
        name: a string, or what has one as its ``name``, as tasks and queues have.
        what: the subject of the message.
        limit: how many characters it has at most.

    Raises:
        TypeError: it is no string, and has none as its name.
        ValueError: it is empty, too long, contains NUL or half a character.
    """
    given = name if isinstance(name, str) else getattr(name, "name", None)
    if not isinstance(given, str):
        raise TypeError(f"{what} is a string, not {type(name).__name__}")
    text = str.__str__(given)  # of a member of an enum of strings, its value
    is_odd = not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)
    if not text or len(text) > limit or "\x00" in text or is_odd:
        raise ValueError(
            f"{what} has 1 to {limit} characters and no NUL; {text[:40]!r} does not fit"
        )
    return text


def checked_text(text: Any, what: str, limit: int = LONGEST_NAME) -> str:
    """Return text that is not empty and that every store can keep.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty, too long, contains NUL or half a character.
    """
    check_text(what, text)
    if "\x00" in text:
        raise ValueError(f"{what} must not contain NUL; {text[:40]!r} does: take it out")
    return checked_name(text, what, limit)


def checked_key(key: Any, what: str) -> str:
    """Return the id of an event or of a request: any text that is not empty, as it is kept by its
    digest.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty or too long, or has half a character.
    """
    check_text(what, key)
    if not 0 < len(key) <= LONGEST_EVENT:
        raise ValueError(f"{what} has 1 to {LONGEST_EVENT} characters; {key[:40]!r} has {len(key)}")
    return str.__str__(key)


def request_key(request_id: str) -> str:
    """Return the key of a request, of fixed length, by the id that its asker gave."""
    return hashlib.sha256(request_id.encode()).hexdigest()[:48]


# -- ids -------------------------------------------------------------------------------------------


def check_instance_id(instance_id: Any) -> str:
    """Return an id under which there may be an instance.

    Raises:
        ValueError: it is empty, longer than 150 characters, or contains NUL.
        TypeError: it is no string.
    """
    return checked_text(instance_id, "an instance id", LONGEST_ID)


def check_new_id(instance_id: Any, entity: str | None = None) -> str:
    """Return an id under which an orchestration may be started.

    Args:
        instance_id: the id.
        entity: the name of the entities that its orchestrator runs, None for any other.

    Raises:
        ValueError: it does not fit, or reads as that of an activity, or of an entity of another
            name.
        TypeError: it is no string.
    """
    chosen = check_instance_id(instance_id)
    if ActivityAttemptId.parse(chosen) is not None:
        raise ValueError(
            f"{chosen!r} cannot be an instance id: it reads as the task id of an activity. Choose"
            " another one"
        )
    if (name := _entity_in(chosen)) is not None and name != entity:
        raise ValueError(
            f"{chosen[:80]!r} cannot be the id of an orchestration: ids that begin with"
            f" '@{name[:60]}@' are those of the entities of that name. Choose another one"
        )
    return chosen


def next_id(instance_id: str, attempt: int) -> str:
    """Return the id of another attempt of a sub-orchestration: legible where it fits, always the
    same.
    """
    suffix = f"~{attempt}"
    if len(instance_id) + len(suffix) > LONGEST_ID:
        suffix = f"~{hashlib.sha256(instance_id.encode()).hexdigest()[:16]}{suffix}"
    return instance_id[: LONGEST_ID - len(suffix)] + suffix


class ActivityAttemptId(NamedTuple):
    """What names one attempt of one activity everywhere, also as a Celery task id."""

    execution: str
    command: int
    attempt: int

    @property
    def task_id(self) -> str:
        """Return the Celery task id; never made of the instance id."""
        return f"d-{self.execution}-{self.command}-{self.attempt}"

    @classmethod
    def parse(cls, task_id: Any) -> ActivityAttemptId | None:
        """Return the attempt in a task id, or None if it is no activity's.

        The id comes from a message, and may be anything.
        """
        if not isinstance(task_id, str) or (found := _TICKET.fullmatch(task_id)) is None:
            return None
        return cls(found[1], int(found[2]), int(found[3]))


def parts_of_id(instance_id: str) -> tuple[str, str] | None:
    """Return the name and the key of an entity, or None if it is not the id of one."""
    name = _entity_in(instance_id)
    key = "" if name is None else instance_id[len(name) + 2 :]
    return (name, key) if name is not None and key else None


def _entity_in(instance_id: str) -> str | None:
    if not instance_id.startswith("@"):
        return None
    name, at, _ = instance_id[1:].partition("@")
    return name if at and ENTITY_NAME.fullmatch(name) else None
