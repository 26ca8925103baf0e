"""``purge``: an ended one is deleted, with its history and its ended children."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.errors import InvalidState
from tests.contract.builders import everything

from .scene import OfVerb, Scene


class TestPurge(OfVerb):
    name = "purge"
    acts_in = "COMPLETED FAILED CANCELED TERMINATED"
    permission = "Can purge orchestrations"
    for_entities = True
    is_destructive = True
    may_be_gone = True

    @pytest.mark.parametrize("id_", ["COMPLETED", "FAILED", "CANCELED", "TERMINATED"])
    def test_no_row_is_left_and_the_others_stay(self, scene: Scene, id_: str) -> None:
        others = {
            table: [row for row in found if id_ not in (row.get("id"), row.get("instance"))]
            for table, found in everything(scene.store).items()
        }
        scene.apply("purge", id_)
        assert everything(scene.store) == others

    @pytest.mark.parametrize("recursive", [True, False])
    def test_ended_children_go_with_it_if_that_is_wanted(
        self, scene: Scene, recursive: bool
    ) -> None:
        scene.start("whole", id_="w")
        scene.pump()
        scene.raise_event("w.part", "go")
        scene.pump()
        scene.apply("purge", "w", recursive=recursive)
        assert scene.status("w") is None
        assert (scene.status("w.part") is None) == recursive

    def test_a_child_that_runs_stays(self, scene: Scene) -> None:
        scene.start("whole", id_="w")
        scene.pump()
        scene.apply("terminate", "w", recursive=False)
        scene.apply("purge", "w")
        assert (scene.status("w"), scene.status("w.part")) == (None, "RUNNING")

    def test_it_waits_until_celery_was_told_of_the_end(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads: Any = scene.store.reads
        monkeypatch.setattr(reads, "is_finished_for_celery", lambda execution: False)
        with pytest.raises(InvalidState, match="its last message to Celery is still under way"):
            scene.apply("purge", "COMPLETED")
        assert scene.status("COMPLETED") == "COMPLETED"

    def test_what_is_deleted_leaves_no_method_to_undo_it(self) -> None:
        assert self.verb.deletes  # pages lead back to the list
