"""``rewind``: what failed runs again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import InboxKind
from celery_durable.errors import InvalidState

from .scene import OfVerb, Scene


class TestRewind(OfVerb):
    name = "rewind"
    acts_in = "FAILED"
    ignored_in = "PENDING RUNNING SUSPENDED"
    permission = "Can rewind orchestrations"

    def test_it_runs_and_a_message_asks_for_the_rest(self, scene: Scene) -> None:
        before = scene.client.fetch("FAILED")
        scene.apply("rewind", "FAILED", reason="why")
        last = scene.last_event("FAILED")
        assert scene.status("FAILED") is RuntimeStatus.RUNNING
        assert (last.kind, last.facts) == (EventKind.EXECUTION_REWOUND, {"reason": "why"})
        [asked] = scene.inbox("FAILED", InboxKind.REWIND)
        assert asked["dedup"] == f"rewind:{before.execution}:{before.sequence}"
        assert (asked["command"], json.loads(asked["facts"])) == (0, {"reason": "why"})
        assert asked["check_at"] is not None  # recovery sends the turn if this process dies
        assert scene.turns_sent() == ["FAILED"]

    def test_it_waits_until_celery_was_told_of_the_end(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads: Any = scene.store.reads
        monkeypatch.setattr(reads, "is_finished_for_celery", lambda execution: False)
        with pytest.raises(InvalidState, match="is FAILED, but its last message to Celery is"):
            scene.apply("rewind", "FAILED")
        assert scene.status("FAILED") is RuntimeStatus.FAILED

    def test_a_forecast_says_what_it_would_do_and_does_nothing(self, scene: Scene) -> None:
        foreseen: Any = scene.client.foresee("rewind", "FAILED", {})
        assert foreseen.status is RuntimeStatus.RUNNING
        assert any("fails" in each for each in foreseen.commands)
        running: Any = scene.client.foresee("rewind", "RUNNING", {})
        assert (running.status, running.commands) == (RuntimeStatus.RUNNING, [])
        with pytest.raises(InvalidState, match="rewind needs one that is FAILED"):
            scene.client.foresee("rewind", "COMPLETED", {})
        assert scene.status("FAILED") is RuntimeStatus.FAILED
        assert scene.inbox("FAILED", InboxKind.REWIND) == []
