"""Plain data of orchestrations, the same for every surface; see ``inspection.views`` and
``inspection.instance_page``.
"""

from .inspection.instance_page import awaited_view, failure_view, tally_view
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
    "awaited_view",
    "current_waits",
    "entity_view",
    "failure_view",
    "instance_view",
    "is_failure",
    "iso",
    "pause_view",
    "plain",
    "schedule_view",
    "tally_view",
    "timeline_view",
    "without_message",
]
