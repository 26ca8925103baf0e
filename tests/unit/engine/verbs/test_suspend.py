"""``suspend``: no turn is taken until it is resumed, and nothing that comes is lost."""

from __future__ import annotations

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus

from .scene import OfVerb, Scene


class TestSuspend(OfVerb):
    name = "suspend"
    acts_in = "PENDING RUNNING"
    ignored_in = "SUSPENDED"
    permission = "Can suspend orchestrations"
    for_entities = True

    def test_history_and_instance_keep_the_reason(self, scene: Scene) -> None:
        for id_, reason, kept in [("RUNNING", "why", "why"), ("PENDING", None, "by request")]:
            scene.apply("suspend", id_, reason=reason)
            last, record = scene.last_event(id_), scene.client.fetch(id_)
            assert (record.status, last.kind) == (
                RuntimeStatus.SUSPENDED,
                EventKind.EXECUTION_SUSPENDED,
            )
            assert record.reason == last.facts["reason"]
            assert record.reason.endswith(kept)

    def test_what_waits_in_the_inbox_is_parked(self, scene: Scene) -> None:
        assert [row["check_at"] is None for row in scene.inbox("PENDING")] == [False]
        scene.apply("suspend", "PENDING")
        assert [row["check_at"] is None for row in scene.inbox("PENDING")] == [True]
        assert scene.turns_sent() == []

    def test_a_second_reason_does_not_replace_the_first(self, scene: Scene) -> None:
        scene.apply("suspend", "SUSPENDED", reason="second")
        assert scene.client.fetch("SUSPENDED").reason == "first"
