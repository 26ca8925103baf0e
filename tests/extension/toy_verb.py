"""A verb from outside: ``hurry`` raises an event that says how much, by whom and why."""

from __future__ import annotations

from celery_durable.engine.control import Control
from celery_durable.engine.verb import LIVE, Argument, Kind, Verb, Words
from celery_durable.engine.verbs.events import event_message


def hurry(
    control: Control, instance_id: str, note: str, factor: int = 2, reason: str | None = None
) -> None:
    data = {"note": note, "factor": factor, "reason": reason}
    control.send(event_message(control, instance_id, "hurry", data, None), HURRY)


def foresee_hurry(control: Control, instance_id: str, note: str, **_: object) -> str:
    return f"{control.fetch(instance_id).name} would hear {note!r}"


HURRY = Verb(
    "hurry",
    acts_in=LIVE,
    ignored_in=(),
    arguments=(
        Argument("note", Kind.TEXT, "What to say.", is_required=True),
        Argument("factor", Kind.NUMBER, "How much faster.", default=2),
    ),
    function=hurry,
    forecast=foresee_hurry,
    words=Words("Hurry", "Hurry orchestrations", "They are told to be faster.", "hurried"),
)
