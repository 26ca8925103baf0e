"""What may be found in an application, why it matters, and what to do: one row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

__all__ = ["KINDS", "Importance", "Item", "Kind"]


class Importance(IntEnum):
    """How much depends on it: the first ones come first."""

    #: It behaves in another way as part of an orchestration, or is broken today.
    HIGH = 1
    #: A part of the work of moving.
    MEDIUM = 2
    #: Good to know.
    LOW = 3


class Kind(NamedTuple):
    """One of them."""

    name: str
    importance: Importance
    title: str
    why: str
    action: str
    #: The page of the documentation that tells more.
    page: str


class Item(NamedTuple):
    """What was found at one place."""

    kind: str
    file: str
    line: int
    found: str


_HIGH, _MEDIUM, _LOW = Importance
_CANVAS, _EFFECTS, _TESTING = (
    f"howto/{page}.md" for page in ("coming-from-canvas", "exactly-once", "testing")
)
_ROWS: Sequence[Kind] = (
    Kind(
        "unread-setting",
        _HIGH,
        "settings of celery-durable that would not be read",
        "The app is configured under another namespace, so they have no effect, and the first use"
        " of the engine is refused.",
        'Write app.config_from_object("django.conf:settings", namespace="CELERY"), or set'
        " durable_... where the app is configured.",
        "reference/settings.md",
    ),
    Kind(
        "status-check",
        _HIGH,
        "a task asks how another task stands",
        "Activities have ids of the engine's own and keep their results in the store, so"
        " AsyncResult says PENDING for ever. Even with plain Celery the answer may be old, and an"
        " unknown id is PENDING, too.",
        "Let an orchestrator await the first call, and make the second one after it: then there is"
        " nothing to ask.",
        _CANVAS,
    ),
    Kind(
        "waits-in-task",
        _HIGH,
        "a task waits for the result of another task",
        "It holds a worker's slot meanwhile; when all slots wait, nothing runs any more. What it"
        " waits for is lost with its worker.",
        "Make it an orchestrator: await ctx.call(first.s(...)), then ctx.call(second.s(...)).",
        "howto/writing-orchestrators.md",
    ),
    Kind(
        "status-guard",
        _HIGH,
        "a task returns early by a status that it sets itself",
        "An activity whose worker dies runs again. The second run then meets what the first one"
        " left, takes it for done by another, and returns nothing as the result.",
        "Keep durable_context().idempotency_key beside the status and let the same key through, or"
        " write the status in a @durable.transactional task.",
        _EFFECTS,
    ),
    Kind(
        "long-countdown",
        _HIGH,
        "a countdown or eta that is longer than the broker waits",
        "The message stays unacknowledged in a worker until it is due. Redis and SQS deliver it"
        " again after visibility_timeout, so it runs several times; RabbitMQ closes the channel"
        " after its consumer_timeout, 30 minutes.",
        "Wait in an orchestration: await ctx.sleep(...) of any length is a row in the store. Or"
        " start one with durable.start(flow.s(...), start_at=...).",
        "reference/options.md",
    ),
    Kind(
        "pickle",
        _HIGH,
        "values are pickled",
        "Arguments and results of activities are kept in the store as JSON: objects, sets and"
        " models that only pickle takes are refused with PayloadError. Who can write to the broker"
        " can run code in the workers.",
        "Pass ids, plain data, dataclasses or pydantic models to tasks that become activities."
        ' durable_serializer = "pickle" exists, and has the same risk.',
        "reference/context.md",
    ),
    Kind(
        "canvas",
        _MEDIUM,
        "canvases that could become an orchestration",
        "What comes next travels in the messages, or waits for the result backend: it is lost with"
        " a broker, a worker or an expired result, and nothing tells.",
        "durable.canvas(...) runs it as it is, with one id and one status; an orchestrator says the"
        " same as code, with try, loops and waiting.",
        _CANVAS,
    ),
    Kind(
        "on-commit",
        _MEDIUM,
        "tasks that are sent after a commit",
        "A process that dies between the commit and the message loses the task.",
        "If it becomes an orchestration, start it within the transaction, by durable.start(...) in"
        " atomic() or with session=: rows and start are committed together. on_commit around it"
        " would bring the gap back.",
        "howto/django.md",
    ),
    Kind(
        "task-id",
        _MEDIUM,
        "ids of your own",
        "An orchestration takes one as its instance id, and knows a second start with it. An"
        " activity does not: the engine tells attempts apart by their ids, and ctx.call refuses"
        " task_id.",
        "Start orchestrations by durable.start(..., instance_id=...). In an activity use"
        " durable_context().idempotency_key, or pass your id as an argument.",
        "reference/options.md",
    ),
    Kind(
        "ignore-reject",
        _MEDIUM,
        "raise Ignore or Reject",
        "In plain Celery no one hears of it. Called by ctx.call, Ignore and Reject are an"
        " ActivityError in the orchestrator, and Reject(requeue=True) runs again; in durable.canvas"
        " Ignore stops the whole.",
        "Return a value that says so, or raise an exception of your own that the orchestrator"
        " catches.",
        _CANVAS,
    ),
    Kind(
        "replace",
        _MEDIUM,
        "self.replace and self.add_to_chord",
        "Both work in the members of durable.canvas, and replace in activities; add_to_chord needs"
        " a chord around it, which an orchestrator is not.",
        "Let the task return what is to run next, and the orchestrator call that.",
        _CANVAS,
    ),
    Kind(
        "patched",
        _MEDIUM,
        "tests that patch delay or apply_async",
        "The engine sends activities by itself: a patched .delay is never called, and such a test"
        " passes though nothing was sent, or fails though all is well.",
        "durable_env.replace(task, returns=...) and durable_env.calls(task) in tests of"
        " orchestrations; tests of what stays plain Celery keep their patches.",
        _TESTING,
    ),
    Kind(
        "eager",
        _MEDIUM,
        "task_always_eager",
        "Activities then run at once in the process that starts the orchestration, on the store"
        " that is configured; nothing makes time pass.",
        "Set it in tests only, and there rather take the fixture durable_env: a store and a clock"
        " for each test.",
        _TESTING,
    ),
    Kind(
        "at-least-once",
        _MEDIUM,
        "tasks that are lost with their worker today",
        "Without acks_late a task whose worker is killed is gone. As an activity it runs again: an"
        " effect that is not made for that happens twice.",
        "Look at each effect once: a transaction, an idempotency key, or at_most_once=True.",
        _EFFECTS,
    ),
    Kind(
        "ignored-result",
        _MEDIUM,
        "ignore_result where a result is used",
        "Celery gives None for it, and wants no such task in a chord. ctx.call and durable.canvas"
        " give what the task returned, ignore_result or not: code behind it sees values where it"
        " saw None.",
        "Look at what takes the result. For activities the option can stay: the store has the"
        " result.",
        _CANVAS,
    ),
    Kind(
        "acks",
        _LOW,
        "acks_late and reject_on_worker_lost",
        "Activities need neither: their message is acknowledged once the outcome is in the store,"
        " and the engine finds what a dead worker had.",
        "Leave them for what stays plain Celery. at_most_once=True does not hear"
        " reject_on_worker_lost.",
        _EFFECTS,
    ),
    Kind(
        "no-results",
        _LOW,
        "no results are kept",
        "AsyncResult.get() has nothing to read. Orchestrations and activities do not need a result"
        " backend.",
        "Ask the handle: run.wait(), run.output, durable.get(id). Set result_backend only if code"
        " uses AsyncResult of orchestrations.",
        "reference/settings.md",
    ),
    Kind(
        "namespace",
        _LOW,
        "Django, and an app without the namespace CELERY",
        "Settings of celery-durable are then not called CELERY_DURABLE_... as its pages for Django"
        " say.",
        'Write app.config_from_object("django.conf:settings", namespace="CELERY"), or use the'
        " names of the reference.",
        "howto/django.md",
    ),
    Kind(
        "beat",
        _LOW,
        "entries of beat_schedule",
        "They stay as they are. A task that runs every minute to see what is due may be a wait that"
        " an orchestration can do itself, each for its own.",
        "await ctx.sleep(...) or ctx.wait_event(..., timeout=) in an orchestration; regular ones by"
        " durable.schedule(...), which needs no beat.",
        "howto/schedules.md",
    ),
    Kind(
        "signals",
        _LOW,
        "receivers of Celery's signals",
        "They are called for activities as for any task, once for each attempt, and for messages of"
        " orchestrations: task_prerun and task_postrun once for each turn.",
        "See that they can be called more than once for one orchestration. Headers that they add"
        " travel if durable_propagate names them.",
        "howto/context.md",
    ),
    Kind(
        "countdown",
        _LOW,
        "countdown and eta",
        "As an option of ctx.call they are durable timers. Anywhere else they stay Celery's: a"
        " message that waits in the memory of a worker.",
        "ctx.sleep(...) in an orchestration, if it must not be lost.",
        "reference/options.md",
    ),
    Kind(
        "status-poll",
        _LOW,
        "AsyncResult is asked for a status",
        "Right for plain tasks and for orchestrations. Of activities it knows nothing.",
        "Ask durable.get(id).runtime_status, which needs no result backend.",
        "howto/watching.md",
    ),
    Kind(
        "canvas-keeps",
        _LOW,
        "canvases that can stay",
        "A group, or two steps, has little that can get lost between.",
        "Keep them. If one must survive, durable.canvas(...) takes it as it is.",
        _CANVAS,
    ),
)
#: By their names, in the order in which they are shown.
KINDS: Mapping[str, Kind] = {each.name: each for each in sorted(_ROWS, key=lambda k: k.importance)}
