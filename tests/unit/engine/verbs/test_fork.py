"""``fork``: another one goes on from a point in the history of this one."""

from __future__ import annotations

import json

import pytest

from celery_durable.core.history import EventKind
from celery_durable.engine.verb import Surface
from celery_durable.errors import InstanceExists

from .scene import OfVerb, Scene


class TestFork(OfVerb):
    name = "fork"
    acts_in = "RUNNING SUSPENDED COMPLETED FAILED CANCELED TERMINATED"
    given = {"at": 1}
    permission = "Can fork orchestrations"
    left_out = frozenset({Surface.HTTP, Surface.ADMIN, Surface.FLOWER})
    is_bulk = False

    def test_the_new_one_has_the_history_up_to_there_and_says_where_it_comes_from(
        self, scene: Scene
    ) -> None:
        before, old = scene.events("COMPLETED"), scene.client.fetch("COMPLETED")
        assert scene.apply("fork", "COMPLETED", at=2, new_id="f", reason="why") == "f"
        new = scene.client.fetch("f")
        assert (new.name, new.version, new.input) == (old.name, old.version, old.input)
        kept = [event.kind for event in scene.events("f")]
        assert kept == [event.kind for event in before][: len(kept)]
        assert scene.events("f")[0].facts["seed"] == old.execution
        [origin] = scene.inbox("f", EventKind.WORK_RENEWED)
        assert json.loads(origin["facts"]) == {
            "seed": new.execution,
            "fork_of": "COMPLETED",
            "at": 2,
            "reason": "why",
        }
        assert scene.turns_sent() == ["f"]
        assert scene.client.fetch("COMPLETED") == old

    def test_it_lives_on_by_itself(self, scene: Scene) -> None:
        new_id = scene.apply("fork", "FAILED", at=1)
        scene.pump()
        scene.raise_event(new_id, "go")
        scene.pump()
        assert scene.output(new_id) == [1, False]
        assert scene.status("FAILED") == "FAILED"

    @pytest.mark.parametrize("at", [True, None, "2", 2.0])
    def test_a_point_that_is_no_number_is_refused(self, scene: Scene, at: object) -> None:
        with pytest.raises(TypeError, match=f"at must be a whole number, not {at!r}"):
            scene.apply("fork", "RUNNING", at=at)

    @pytest.mark.parametrize("at", [0, 99])
    def test_a_point_that_is_none_is_refused(self, scene: Scene, at: object) -> None:
        with pytest.raises(ValueError, match=f"has no event {at!r} to fork at"):
            scene.apply("fork", "RUNNING", at=at)

    def test_an_end_is_no_point(self, scene: Scene) -> None:
        with pytest.raises(ValueError, match="fork it at an earlier one"):
            scene.apply("fork", "COMPLETED", at=len(scene.events("COMPLETED")))

    def test_an_id_that_is_in_use_is_refused(self, scene: Scene) -> None:
        with pytest.raises(InstanceExists, match="'RUNNING'"):
            scene.apply("fork", "FAILED", at=1, new_id="RUNNING")
