"""A commit in the making, for the test of each compiler."""

from __future__ import annotations

from typing import Any

from celery_durable.core.decision import Decision
from celery_durable.core.permits import Permit
from celery_durable.core.status import MOVING, RuntimeStatus
from celery_durable.engine.draft import CommitDraft
from celery_durable.engine.observers import PropagatedContext
from celery_durable.engine.writes import TurnCommit
from celery_durable.payload import PayloadCodec
from celery_durable.settings import Settings
from tests.unit.engine.rows import snapshot

__all__ = ["CODEC", "Asked", "new_draft"]

CODEC = PayloadCodec()


class Asked:
    """What a compiler asks: where messages go, whether Celery is told, and what is limited."""

    def __init__(self) -> None:
        self.needs_message_at_end = False
        self.needed: tuple[Permit, ...] = ()

    def route(self, name: str, options: Any, arguments: Any = None) -> str:
        return f"{name}.queue"

    def place(self, name: str, options: Any, arguments: Any) -> tuple[str, Any]:
        return f"{name}.queue", options

    def needs_finish(self, name: str, canvas: str | None, status: RuntimeStatus) -> bool:
        return self.needs_message_at_end

    def permits(self, command: Any) -> tuple[Permit, ...]:
        return self.needed

    def priority(self, command: Any) -> int:
        return 7

    def of_start(self, name: str, instance_id: str) -> tuple[str, None]:
        return f"{name}.version", None


def new_draft(
    asked: Asked | None = None,
    *,
    decision: Decision | None = None,
    carried: PropagatedContext | None = None,
    max_activities: int | None = None,
    settings: Settings | None = None,
    **instance: Any,
) -> CommitDraft:
    """Return a draft of the first commit of instance "i"."""
    answers: Any = asked or Asked()
    return CommitDraft(
        TurnCommit("i", "e", 1, MOVING),
        snapshot(**instance),
        decision or Decision(),
        settings or Settings(),
        publisher=answers,
        codec=CODEC,
        versions=answers,
        limits=answers,
        leaves_rest=False,
        max_activities=max_activities,
        carried=carried or PropagatedContext(),
    )
