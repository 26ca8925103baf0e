"""What an orchestration did when; see ``inspection.timeline``."""

from .inspection.timeline import (
    MOST_LANES,
    Lane,
    Mark,
    Segment,
    Timeline,
    since_rewind,
    timeline_of,
)

__all__ = ["MOST_LANES", "Lane", "Mark", "Segment", "Timeline", "since_rewind", "timeline_of"]
