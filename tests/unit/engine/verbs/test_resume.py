"""``resume``: it continues, with what has arrived meanwhile."""

from __future__ import annotations

import pytest

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus

from .scene import OfVerb, Scene


class TestResume(OfVerb):
    name = "resume"
    acts_in = "SUSPENDED"
    ignored_in = "PENDING RUNNING"
    permission = "Can resume orchestrations"
    for_entities = True

    @pytest.mark.parametrize(("reason", "facts"), [("why", {"reason": "why"}), (None, None)])
    def test_history_gets_the_reason_from_a_message(
        self, scene: Scene, reason: str | None, facts: dict[str, str] | None
    ) -> None:
        scene.apply("resume", "SUSPENDED", reason=reason)
        assert scene.client.fetch("SUSPENDED").reason is None
        assert scene.turns_sent() == ["SUSPENDED"]
        scene.runner.run("SUSPENDED")
        assert scene.inbox("SUSPENDED", EventKind.EXECUTION_RESUMED) == []
        assert (scene.last_event("SUSPENDED").kind, scene.last_event("SUSPENDED").facts) == (
            EventKind.EXECUTION_RESUMED,
            facts,
        )

    def test_what_was_parked_is_heard(self, scene: Scene) -> None:
        scene.raise_event("SUSPENDED", "go")
        scene.pump()
        assert scene.status("SUSPENDED") is RuntimeStatus.SUSPENDED
        scene.apply("resume", "SUSPENDED")
        scene.pump()
        assert scene.output("SUSPENDED") == [1, False]

    def test_one_that_had_not_begun_is_to_begin(self, scene: Scene) -> None:
        scene.apply("suspend", "PENDING")
        scene.apply("resume", "PENDING", reason="why")
        assert scene.status("PENDING") is RuntimeStatus.PENDING
        assert scene.inbox("PENDING", EventKind.EXECUTION_RESUMED) == []
        [started] = scene.inbox("PENDING")
        assert started["check_at"] is not None  # recovery looks at it again
        assert scene.turns_sent() == ["PENDING"]
