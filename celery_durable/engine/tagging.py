"""Setting tags of an orchestration from outside, at once and in any status."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from .._errors import DurableError
from ..core.guard import refuse_inside_orchestrator
from ..core.tags import tag_changes
from .control import TRIES, Control

__all__ = ["set_tags"]


def set_tags(
    control: Control, instance_id: str, tags: Mapping[str, str] | None, remove: Iterable[str]
) -> None:
    """Set some tags of an instance and remove others; no turn is taken for it.

    Raises:
        TypeError, ValueError: these are no tags.
        InstanceNotFound: there is no such instance.
        DurableError: turns of it held it each time.
    """
    refuse_inside_orchestrator("set_tags()")
    changes = tag_changes(tags, remove)
    for _ in range(TRIES):
        control.fetch(instance_id)
        if not changes or control.store.turns.change_tags(instance_id, changes):
            return
        time.sleep(0.01)
    raise DurableError(
        f"orchestration {instance_id!r} moves too fast to be changed; try again",
        instance_id=instance_id,
    )
