"""``terminate``: it ends at once, whatever its code wants."""

from __future__ import annotations

import json

import pytest

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import InboxKind

from .scene import OfVerb, Scene


class TestTerminate(OfVerb):
    name = "terminate"
    acts_in = "PENDING RUNNING SUSPENDED"
    ignored_in = "COMPLETED FAILED CANCELED TERMINATED"
    permission = "Can terminate orchestrations"
    for_entities = True
    is_destructive = True

    @pytest.mark.parametrize("id_", ["PENDING", "RUNNING", "SUSPENDED"])
    def test_it_has_ended_before_any_turn(self, scene: Scene, id_: str) -> None:
        scene.apply("terminate", id_, reason="why", output={"paid": 1})
        record, last = scene.client.fetch(id_), scene.last_event(id_)
        assert (record.status, record.reason) == (RuntimeStatus.TERMINATED, "why")
        assert scene.codec.decode(record.output or "") == {"paid": 1}
        assert (last.kind, last.facts) == (EventKind.EXECUTION_TERMINATED, {"reason": "why"})
        assert scene.inbox(id_) == []  # nobody is to hear it any more

    def test_without_an_output_it_has_none(self, scene: Scene) -> None:
        scene.apply("terminate", "RUNNING")
        record = scene.client.fetch("RUNNING")
        assert (record.output, record.reason) == (None, None)

    @pytest.mark.parametrize("recursive", [True, False])
    def test_its_children_end_too_or_go_on_alone(self, scene: Scene, recursive: bool) -> None:
        scene.start("whole", id_="w")
        scene.pump()
        scene.apply("terminate", "w", recursive=recursive)
        asked = scene.inbox("w.part", InboxKind.TERMINATE)
        told = {"reason": "its parent w was terminated", "recursive": True}
        assert [json.loads(row["facts"]) for row in asked] == ([told] if recursive else [])
        assert scene.turns_sent() == (["w.part"] if recursive else [])
