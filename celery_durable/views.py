"""Plain data of orchestrations, the same for every surface; see ``inspection.views``."""

from .inspection.views import (
    SCHEMA,
    current_waits,
    entity_view,
    instance_view,
    is_failure,
    iso,
    pause_view,
    plain,
    schedule_view,
    timeline_view,
    without_message,
)

__all__ = [
    "SCHEMA",
    "current_waits",
    "entity_view",
    "instance_view",
    "is_failure",
    "iso",
    "pause_view",
    "plain",
    "schedule_view",
    "timeline_view",
    "without_message",
]
