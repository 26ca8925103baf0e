"""``override``: a call gets its outcome by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_durable.core.history import EventKind
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import InboxKind
from celery_durable.engine.verb import Surface
from celery_durable.errors import InvalidState
from tests.contract.builders import everything

from .scene import OfVerb, Scene


class TestOverride(OfVerb):
    name = "override"
    acts_in = "RUNNING SUSPENDED FAILED"
    given = {"call": 2, "result": 5}
    permission = "Can override outcomes in orchestrations"
    left_out = frozenset({Surface.HTTP, Surface.ADMIN, Surface.FLOWER})
    is_bulk = False

    @pytest.mark.parametrize(
        ("given", "kind", "payload"),
        [
            ({"result": 5}, EventKind.ACTIVITY_COMPLETED, b"5"),
            ({}, EventKind.ACTIVITY_COMPLETED, b"null"),
            ({"error": ValueError("no")}, EventKind.ACTIVITY_FAILED, None),
        ],
    )
    def test_a_live_one_gets_it_as_a_message(
        self, scene: Scene, given: dict[str, object], kind: str, payload: bytes | None
    ) -> None:
        scene.apply("override", "RUNNING", call=2, reason="why", **given)
        [row] = scene.inbox("RUNNING", kind)
        assert (row["command"], row["attempt"]) == (2, 1)
        assert json.loads(row["facts"]) == {"injected": True, "reason": "why"}
        assert payload is None or row["payload"] == payload
        assert scene.turns_sent() == ["RUNNING"]

    def test_each_use_counts_by_itself(self, scene: Scene) -> None:
        for result in (1, 2):
            scene.apply("override", "RUNNING", call=2, result=result)
        assert len(scene.inbox("RUNNING", EventKind.ACTIVITY_COMPLETED)) == 2

    def test_a_failed_one_is_rewound_with_it(self, scene: Scene) -> None:
        scene.apply("override", "FAILED", call=2, result=5, reason="why")
        assert scene.status("FAILED") is RuntimeStatus.RUNNING
        [asked] = scene.inbox("FAILED", InboxKind.REWIND)
        assert (asked["command"], json.loads(asked["facts"])) == (
            2,
            {"reason": "why", "failed": False},
        )
        assert scene.last_event("FAILED").facts == {"reason": "why"}

    def test_an_outcome_that_is_there_stays(self, scene: Scene) -> None:
        with pytest.raises(InvalidState, match=r"call 1 \(charge\) of 'RUNNING'.* already"):
            scene.apply("override", "RUNNING", call=1)

    def test_what_a_rewind_runs_again_needs_no_outcome(self, scene: Scene) -> None:
        with pytest.raises(InvalidState, match=r"call 5 \(charge\) of 'FAILED'.* runs it again"):
            scene.apply("override", "FAILED", call=5)

    def test_what_is_no_call_is_refused_with_those_there_are(self, scene: Scene) -> None:
        with pytest.raises(ValueError, match=r"those are 1 \(charge\), 2 \(flaky\)"):
            scene.apply("override", "RUNNING", call=9)

    @pytest.mark.parametrize(
        ("id_", "call", "status"),
        [("RUNNING", 2, RuntimeStatus.RUNNING), ("FAILED", 4, RuntimeStatus.COMPLETED)],
    )
    def test_a_forecast_says_what_would_follow_and_does_nothing(
        self, scene: Scene, id_: str, call: int, status: RuntimeStatus
    ) -> None:
        before = everything(scene.store)
        foreseen: Any = scene.client.foresee("override", id_, {"call": call, "result": 5})
        assert foreseen.status is status
        assert everything(scene.store) == before
