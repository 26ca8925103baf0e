"""``cancel``: its code is asked to cancel itself, once."""

from __future__ import annotations

import json

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.verb import Surface

from .scene import OfVerb, Scene


class TestCancel(OfVerb):
    name = "cancel"
    acts_in = "PENDING RUNNING SUSPENDED"
    ignored_in = "COMPLETED FAILED CANCELED TERMINATED"
    permission = "Can cancel orchestrations"
    left_out = frozenset({Surface.HTTP})
    is_destructive = True

    def test_one_message_asks_however_often_it_is_used(self, scene: Scene) -> None:
        scene.apply("cancel", "RUNNING", reason="first")
        scene.apply("cancel", "RUNNING", reason="second")
        [asked] = scene.inbox("RUNNING", EventKind.CANCEL_REQUESTED)
        assert asked["dedup"] == "cancel"
        assert json.loads(asked["facts"]) == {"reason": "first"}
        assert asked["check_at"] is not None  # recovery sends the turn if this process dies
        assert scene.turns_sent() == ["RUNNING"] * 2

    def test_its_code_gives_way_and_the_reason_stays(self, scene: Scene) -> None:
        scene.apply("cancel", "RUNNING", reason="why")
        scene.pump()
        record = scene.client.fetch("RUNNING")
        assert (record.status, record.reason) == (RuntimeStatus.CANCELED, "why")

    def test_one_that_is_suspended_hears_it_later(self, scene: Scene) -> None:
        scene.apply("cancel", "SUSPENDED")
        scene.pump()
        assert scene.status("SUSPENDED") is RuntimeStatus.SUSPENDED
        scene.apply("resume", "SUSPENDED")
        scene.pump()
        assert scene.status("SUSPENDED") is RuntimeStatus.CANCELED
