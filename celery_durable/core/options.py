"""What becomes of Celery's options where an orchestration is started, called or declared: none is
dropped without a word.

Each name that Celery knows is in one of these tables; what no table names goes with the messages,
as Celery's own would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import isfinite
from numbers import Real
from typing import Any

from .misspelt import which_is_meant
from .names import checked_name

__all__ = [
    "AT_THE_END",
    "NEEDLESS",
    "NEEDLESS_FOR_ORCHESTRATORS",
    "NOT_OF_ATTEMPTS",
    "OF_THE_START",
    "REFUSED_BY_ACTIVITIES",
    "REFUSED_BY_ORCHESTRATORS",
    "REFUSED_BY_PLAIN_STARTS",
    "REFUSED_BY_STARTS",
    "refuse",
    "refuse_misspelt",
    "stamped",
    "stamps_in",
]

#: For Celery, when the orchestration is over.
AT_THE_END = (
    "link",
    "link_error",
    "chain",
    "chord",
    "group_id",
    "group_index",
    "replaced_task_nesting",
)
#: For the start itself, or read by it.
OF_THE_START = frozenset(
    {
        "task_id",
        "countdown",
        "eta",
        "expires",
        "ignore_result",
        "add_to_parent",
        "root_id",
        "parent_id",
        "reply_to",
        "argsrepr",
        "kwargsrepr",
    }
)
#: About one publishing. A start is a row in the store, and its messages are sent again until one
#: has come.
NEEDLESS = frozenset(
    {
        "producer",
        "publisher",
        "connection",
        "retry",
        "retry_policy",
        "timeout",
        "confirm_timeout",
        "result_cls",
        "task_type",
        "route_name",
        "event_dispatcher",
        "create_sent_event",
        "now",
        "timezone",
        "origin",
    }
)

_TURNS = (
    "an orchestration lives as long as it needs; `durable_turn_timeout` limits a turn,"
    " `asyncio.timeout()` a wait"
)
REFUSED_BY_STARTS = {
    "time_limit": _TURNS,
    "soft_time_limit": _TURNS,
    "retries": "an orchestrator is not retried as a whole; give its calls `retry=RetryPolicy(...)`",
    "router": "its messages go where `task_routes` or `queue=` say",
    "declare": "name the queue by `queue=`; Celery declares it",
    "expiration": "use `expires=`",
    "mandatory": "kombu does not support it",
    "immediate": "kombu does not support it",
    "content_type": "use `serializer=`",
    "content_encoding": "use `serializer=`",
    "body": "its messages have bodies of their own",
}
REFUSED_BY_PLAIN_STARTS = {
    name: why
    for name, why in REFUSED_BY_STARTS.items()
    if name not in ("time_limit", "soft_time_limit", "retries")
}
#: Of the options of a durable start of a plain task, those that are not for its attempts.
NOT_OF_ATTEMPTS = OF_THE_START | NEEDLESS | frozenset(AT_THE_END)
REFUSED_BY_ACTIVITIES = {
    "task_id": (
        "the engine tells attempts apart by their ids; use `durable_context().idempotency_key`, or"
        " hand an id over as an argument"
    )
}

#: What brokers take for no value, or only refuse when the message is sent, again and again.
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "priority": (int, "a whole number"),
    "headers": (Mapping, "a mapping"),
    "countdown": (Real, "seconds"),
    "time_limit": (Real, "seconds"),
    "soft_time_limit": (Real, "seconds"),
    "expires": (object, "seconds or a time"),
    "eta": (object, "a time"),
    "shadow": (str, "a name"),
    "routing_key": (str, "a name"),
    "serializer": (str, "a name"),
    "compression": (str, "a name"),
}

#: What orchestrators do with and without it.
NEEDLESS_FOR_ORCHESTRATORS = frozenset({"pydantic"})
_RETRIES = "an orchestrator is not retried as a whole; give its calls `retry=RetryPolicy(...)`"
_OF_CALLS = "it is for activities: give it to the tasks, or to `ctx.call`"
_MODELS = "annotations of models are honoured by themselves, and there is nothing to choose of it"
REFUSED_BY_ORCHESTRATORS = {
    "bind": "it takes the context, and never its task",
    "typing": "its arguments are always checked",
    "track_started": "its state is STARTED from its first turn on",
    "immediate": "kombu does not support it",
    "mandatory": "kombu does not support it",
    "at_most_once": "it is for activities; a turn counts once, however often it is taken",
    "durable_limit": "here it is limit=",
    "durable_timeout": "here it is timeout=",
    "durable_retention": "here it is retention=",
    "durable_pause_after": "it is for activities; `durable.pause(orchestrator=...)` holds turns",
    **dict.fromkeys(("durable_retry", "retry"), _RETRIES),
    **dict.fromkeys(
        (
            "durable_attempt_timeout",
            "durable_heartbeat_timeout",
            "attempt_timeout",
            "heartbeat_timeout",
            "start_timeout",
        ),
        _OF_CALLS,
    ),
    **dict.fromkeys(("pydantic_strict", "pydantic_context", "pydantic_dump_kwargs"), _MODELS),
    **dict.fromkeys(
        (
            "max_retries",
            "default_retry_delay",
            "autoretry_for",
            "dont_autoretry_for",
            "retry_kwargs",
            "retry_backoff",
            "retry_backoff_max",
            "retry_jitter",
        ),
        _RETRIES,
    ),
}


def refuse(
    options: Mapping[str, Any],
    refused: Mapping[str, str],
    what: str,
    error: type[Exception] = TypeError,
) -> None:
    """Raise if an option is given that has no meaning here, or is of a kind that has none.

    Args:
        options: as they were given; None, 0 and False stand for "not given", but for ``typing``.
        refused: one of the tables above.
        what: the subject of the message.
        error: what to raise.
    """
    for name in refused.keys() & options.keys():
        if options[name] is not None and bool(options[name]) is (name != "typing"):
            raise error(f"{what} takes no {name}=: {refused[name]}")
    for name in _KINDS.keys() & options.keys():
        value, (kinds, words) = options[name], _KINDS[name]
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise error(f"{what}: {name} must be {words}, not {value!r}")
        if isinstance(value, float) and not isfinite(value):
            problem = f"{what}: {name} must be finite, not {value!r}"
            raise (ValueError if error is TypeError else error)(problem)
    if (queue := options.get("queue")) is not None:
        try:
            checked_name(queue, f"{what}: the name of a queue")
        except (TypeError, ValueError) as problem:
            raise (error if error is not TypeError else type(problem))(str(problem)) from None


def refuse_misspelt(
    options: Iterable[str],
    names: tuple[str, ...],
    what: str,
    error: type[Exception],
    *,
    likeness: float,
) -> None:
    """Raise if an option is nearly one of ours: Celery takes any word, and it would do nothing.

    Args:
        options: the names of those that were given, without what Celery's tasks have themselves.
        names: of those that there are.
        what: the subject of the message.
        error: what to raise.
        likeness: how near is too near, from 0 to 1.
    """
    for option in options:
        if option not in names and (question := _question(option, names, "{}=", likeness)):
            raise error(f"{what} takes no {option}=. {question}")


_question = lru_cache(1024)(which_is_meant)  # tasks have mostly the same


def stamped(options: Mapping[str, Any], stamps: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options with the stamps of what they belong to; their own values stay."""
    if not stamps:
        return options
    names = [*stamps["stamped_headers"], *(options.get("stamped_headers") or ())]
    return {**stamps, **options, "stamped_headers": list(dict.fromkeys(names))}


def stamps_in(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options by which Celery stamps what is sent: ``stamped_headers``, and one for each
    of these.
    """
    names = [name for name in options.get("stamped_headers") or () if name in options]
    return {"stamped_headers": names, **{name: options[name] for name in names}} if names else {}
