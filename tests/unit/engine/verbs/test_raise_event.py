"""``raise_event``: an event lies in the inbox until its code asks for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_durable.core.entity import RESERVED
from celery_durable.core.history import EventKind

from .scene import OfVerb, Scene


class TestRaiseEvent(OfVerb):
    name = "raise_event"
    acts_in = "PENDING RUNNING SUSPENDED"
    given = {"name": "paid"}
    permission = "Can raise events on orchestrations"
    is_bulk = False

    def events_of(self, scene: Scene, id_: str = "RUNNING") -> list[dict[str, Any]]:
        return scene.inbox(id_, EventKind.EVENT_RAISED)

    def test_its_name_its_data_and_its_id_lie_in_the_inbox(self, scene: Scene) -> None:
        scene.apply("raise_event", "RUNNING", name="paid", data={"by": "ann"}, event_id="e1")
        [row] = self.events_of(scene)
        assert (row["name"], json.loads(row["facts"])) == ("paid", {"id": "e1"})
        assert json.loads(row["payload"]) == {"by": "ann"}
        assert row["check_at"] is not None  # recovery sends the turn if this process dies
        assert scene.turns_sent() == ["RUNNING"]

    def test_one_id_counts_once_and_without_one_each_counts(self, scene: Scene) -> None:
        for event_id in ("e1", "e1", "e2", None, None):
            scene.apply("raise_event", "RUNNING", name="paid", event_id=event_id)
        ids = [json.loads(row["facts"])["id"] for row in self.events_of(scene)]
        assert ids[:2] == ["e1", "e2"]
        assert len(set(ids)) == len(ids) == 4

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"name": "a\ud800"}, "an event's name must be valid Unicode"),
            ({"name": "a\0b"}, "must not contain NUL"),
            ({"name": ""}, "an event's name has 1 to 100000 characters"),
            ({"name": "paid", "event_id": ""}, "an event's id has 1 to 100000 characters"),
            ({"name": f"{RESERVED}x"}, "are reserved"),
            ({"name": "paid", "event_id": "\udfff"}, "an event's id must be valid Unicode"),
        ],
    )
    def test_what_cannot_be_used_is_refused(
        self, scene: Scene, given: dict[str, str], problem: str
    ) -> None:
        with pytest.raises(ValueError, match=problem):
            scene.apply("raise_event", "RUNNING", **given)
        assert self.events_of(scene) == []
