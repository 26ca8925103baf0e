"""``restart``: once more with the same input, in its own place or under another id."""

from __future__ import annotations

import pytest

from celery_durable.core.status import RuntimeStatus
from celery_durable.errors import InstanceExists

from .scene import OfVerb, Scene


class TestRestart(OfVerb):
    name = "restart"
    acts_in = "COMPLETED FAILED CANCELED TERMINATED"
    permission = "Can restart orchestrations"
    is_destructive = True

    def test_in_its_own_place_nothing_of_the_old_life_is_left(self, scene: Scene) -> None:
        old = scene.client.fetch("COMPLETED")
        assert scene.apply("restart", "COMPLETED") == "COMPLETED"
        new = scene.client.fetch("COMPLETED")
        assert (new.status, new.output, scene.events("COMPLETED")) == (
            RuntimeStatus.PENDING,
            None,
            [],
        )
        assert new.execution != old.execution
        assert (new.name, new.input) == (old.name, old.input)
        assert scene.turns_sent() == ["COMPLETED"]

    @pytest.mark.parametrize("id_", ["FAILED", "RUNNING"])
    def test_under_another_id_the_old_one_stays_in_whatever_status(
        self, scene: Scene, id_: str
    ) -> None:
        old = scene.client.fetch(id_)
        assert scene.apply("restart", id_, new_id="again") == "again"
        assert scene.client.fetch(id_) == old
        assert scene.client.fetch("again").input == old.input
        assert scene.turns_sent() == ["again"]

    def test_an_id_that_is_in_use_is_refused(self, scene: Scene) -> None:
        with pytest.raises(InstanceExists, match="'RUNNING'"):
            scene.apply("restart", "FAILED", new_id="RUNNING")
