"""The names that dashboards, alerts and queries are built on: metrics with their labels, spans'
attributes, event types.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CAUSES", "EVENT_PREFIX", "METRICS", "TIMEOUTS", "Metric"]

#: Celery events of ours: ``durable-turn`` for a turn that changes no status, else
#: ``durable-completed`` and so on.
EVENT_PREFIX = "durable-"

#: What is waited for, by the label ``cause``.
CAUSES = (
    "timer",  # of the code, or before a retry
    "start",  # its time to begin
    "event",  # until a time limit
    "request",  # until a time limit
    "message",  # an event or a request, or a lock, without a limit
    "child",
    "worker",
    "throttled",  # a slot in a window, or of the activities of its orchestration
    "limit",  # a slot of a limit of activities
    "admission",  # a slot of a limit of its orchestrator, or the end of a debounce
    "completion",  # by token
    "replacement",  # the task that took the place of an activity
    "pause",
    "code",  # a worker that has it
)
#: What ran out of time, by the label ``kind``.
TIMEOUTS = ("run", "attempt", "start", "heartbeat")

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_TURN = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ACTIVITY = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)
#: From 100 ms to 30 days.
_INSTANCE = (
    0.1,
    0.5,
    1,
    5,
    15,
    60,
    300,
    900,
    3600,
    14400,
    43200,
    86400,
    259200,
    604800,
    1209600,
    2592000,
)


class Metric(NamedTuple):
    """One metric: where it comes from ("store" or "events"), its kind, help and labels.

    Histograms have ``buckets``.
    """

    name: str
    source: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS = {
    metric.name: metric
    for metric in (
        Metric("celery_durable_up", "store", "gauge", "1 if the store could be read, else 0"),
        Metric(
            "celery_durable_instances",
            "store",
            "gauge",
            "Live orchestrations",
            ("orchestration", "status"),
        ),
        Metric(
            "celery_durable_oldest_pending_timestamp_seconds",
            "store",
            "gauge",
            "When the oldest orchestration that has not begun was created",
            ("orchestration",),
        ),
        Metric(
            "celery_durable_stuck_instances",
            "store",
            "gauge",
            "Live orchestrations that should move and do not",
            ("orchestration",),
        ),
        Metric(
            "celery_durable_history_turns_max",
            "store",
            "gauge",
            "Turns in the longest history of a live orchestration",
            ("orchestration",),
        ),
        Metric(
            "celery_durable_outbox_pending",
            "store",
            "gauge",
            "Activities that wait for a worker",
            ("queue",),
        ),
        Metric(
            "celery_durable_outbox_oldest_timestamp_seconds",
            "store",
            "gauge",
            "When the activity that waits longest for a worker was sent",
            ("queue",),
        ),
        Metric(
            "celery_durable_outbox_resent",
            "store",
            "gauge",
            "Messages that were sent again for activities that wait for a worker",
            ("queue",),
        ),
        Metric(
            "celery_durable_turns_waiting",
            "store",
            "gauge",
            "Messages that want a turn, are due, and have not been taken",
        ),
        Metric(
            "celery_durable_turns_oldest_timestamp_seconds",
            "store",
            "gauge",
            "Since when the message has waited that waits longest for a turn",
        ),
        Metric(
            "celery_durable_activities_running",
            "store",
            "gauge",
            "Activities that a worker is known to run",
        ),
        Metric(
            "celery_durable_timers_overdue",
            "store",
            "gauge",
            "Timers that should have fired 5 seconds ago",
        ),
        Metric(
            "celery_durable_waiting",
            "store",
            "gauge",
            "What live orchestrations and their activities wait for, counted to 100000 each",
            ("cause",),
        ),
        Metric(
            "celery_durable_archive_waiting",
            "store",
            "gauge",
            "Finished orchestrations that wait for the archive to be deleted, counted to 100000",
        ),
        Metric(
            "celery_durable_archive_failing",
            "store",
            "gauge",
            "Finished orchestrations that the archive has refused and is to try again",
        ),
        Metric(
            "celery_durable_workers",
            "store",
            "gauge",
            "Workers that were seen within durable_worker_lease",
        ),
        Metric(
            "celery_durable_schema_revision_info",
            "store",
            "gauge",
            "The revision of the tables",
            ("revision",),
        ),
        Metric(
            "celery_durable_census_seconds",
            "store",
            "gauge",
            "How long the last look at the store took",
        ),
        Metric(
            "celery_durable_instances_started_total",
            "events",
            "counter",
            "Orchestrations that have begun",
            ("orchestration",),
        ),
        Metric(
            "celery_durable_instances_finished_total",
            "events",
            "counter",
            "Orchestrations that are over, by outcome",
            ("orchestration", "outcome"),
        ),
        Metric(
            "celery_durable_instance_duration_seconds",
            "events",
            "histogram",
            "From the beginning of an orchestration to its end",
            ("orchestration",),
            _INSTANCE,
        ),
        Metric(
            "celery_durable_turns_total",
            "events",
            "counter",
            "Turns, by what became of them",
            ("orchestration", "outcome"),
        ),
        Metric(
            "celery_durable_turn_duration_seconds",
            "events",
            "histogram",
            "From the look at an instance to its commit",
            ("orchestration",),
            _TURN,
        ),
        Metric(
            "celery_durable_turn_lag_seconds",
            "events",
            "histogram",
            "From when a turn was due until it began",
            ("orchestration",),
            _LATENCY,
        ),
        Metric(
            "celery_durable_activity_attempts_total",
            "events",
            "counter",
            "Attempts of activities, by outcome",
            ("activity", "outcome"),
        ),
        Metric(
            "celery_durable_activity_retries_total",
            "events",
            "counter",
            "Attempts of activities after their first",
            ("activity",),
        ),
        Metric(
            "celery_durable_timeouts_total",
            "events",
            "counter",
            "What ran out of time: runs of orchestrations, attempts of activities, their starts and"
            " their heartbeats",
            ("name", "kind"),
        ),
        Metric(
            "celery_durable_activity_duration_seconds",
            "events",
            "histogram",
            "How long the bodies of activities ran",
            ("activity",),
            _ACTIVITY,
        ),
        Metric(
            "celery_durable_timer_lag_seconds",
            "events",
            "histogram",
            "From when a timer was due until it was taken",
            (),
            _LATENCY,
        ),
        Metric(
            "celery_durable_nondeterminism_total",
            "events",
            "counter",
            "Turns that stopped because code and history disagree",
            ("orchestration",),
        ),
    )
}
