"""A commit in the making, and what the compilers of commands need beside the command."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..core.canvas_options import CanvasOptions
from ..core.options import stamps_in
from .observers import PropagatedContext

if TYPE_CHECKING:
    from ..core.decision import Decision
    from ..core.ports import Codec
    from ..settings import Settings
    from .activity_limits import ActivityLimits
    from .ports import Publisher
    from .records import Snapshot
    from .version_choice import VersionChoice
    from .writes import TurnCommit

__all__ = ["CHECK_AFTER", "CommitDraft", "new_execution_id"]

#: When recovery looks after a message, in microseconds from the time it is due.
CHECK_AFTER = 2_000_000


def new_execution_id() -> str:
    """Return a random id for one execution of an instance."""
    return uuid.uuid4().hex[:20]


@dataclass
class CommitDraft:
    """What a turn has decided, on its way to a commit."""

    #: Is completed by the compilers.
    commit: TurnCommit
    #: What the turn has read.
    snapshot: Snapshot
    decision: Decision
    settings: Settings
    #: Is asked where things go; sends nothing.
    publisher: Publisher
    codec: Codec
    #: Which version a child gets.
    versions: VersionChoice
    #: What an activity needs before it is sent.
    limits: ActivityLimits
    #: Whether calls, timers or joins are still under way in the store.
    leaves_rest: bool
    #: How many activities of the instance may be under way at a time; None: any number.
    max_activities: int | None = None
    #: What goes with all that is sent: traces.
    carried: PropagatedContext = field(default_factory=PropagatedContext)
    #: How many of the activities that are decided so far wait for nothing.
    sent_at_once: int = 0

    @property
    def execution(self) -> str:
        """The id of the execution that decides."""
        return self.snapshot.instance.execution

    @cached_property
    def context(self) -> Mapping[str, Any]:
        """What travels with the instance: all that it starts and sends has it too."""
        canvas = self.snapshot.instance.canvas
        if not CanvasOptions.may_have(canvas, "context"):
            return {}
        return CanvasOptions.read(self.codec, canvas).context

    @cached_property
    def stamps(self) -> Mapping[str, Any]:
        """With what Celery has stamped the start: all that it sends has the same stamps."""
        canvas = self.snapshot.instance.canvas
        if not CanvasOptions.may_have(canvas, "stamped_headers"):
            return {}
        return stamps_in(CanvasOptions.read(self.codec, canvas).options)
