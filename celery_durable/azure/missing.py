"""The names of Azure's that have no counterpart here, and what to do instead.

Each is refused in these words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import NotSupported

__all__ = ["MISSING", "refuse_options", "refused", "unsupported"]

_HTTP = "celery_durable makes no HTTP requests; put the request in an activity"
_FRONT = (
    "celery_durable.http answers starts with the status URLs, and any web framework can call the"
    " client"
)
_HOST = (
    "it belongs to Azure's host; call the client from your web framework, a Celery task or a"
    " schedule"
)
_WORKER = (
    "a worker is a Celery worker here: run celery -A yourapp worker, and set it up by Celery's own"
    " options"
)
_VERSIONS = (
    "versions are declared, side by side, by version= of @durable.orchestrator; new orchestrations"
    " take the newest"
)
_FILTERS = (
    "route orchestrators and activities to queues by queue= or task_routes, and let a worker"
    " consume some with -Q"
)
_SCHEDULES = "declare schedules by durable.schedule(name, signature, interval=...)"
_JSON = (
    "payloads are encoded by Celery's serializers, see durable_serializer; dataclasses and"
    " to_json/from_json work"
)
_GRPC = "there is no sidecar to connect to; pass the Durable instead"
_HISTORY = "histories are this package's own: durable.get(id).history() and .export_history()"
_RETENTION = (
    "finished orchestrations are kept by retention= and durable_retention, and exported by"
    " run.export_history()"
)
_LARGE = "keep large data elsewhere and pass a reference; durable_payload_limit is the bound"

MISSING: dict[str, str] = {
    **dict.fromkeys(("call_http", "DurableHttpRequest", "DurableHttpResponse"), _HTTP),
    **dict.fromkeys(("TokenSource", "ManagedIdentityTokenSource"), _HTTP),
    **dict.fromkeys(
        (
            "create_check_status_response",
            "create_http_management_payload",
            "get_client_response_links",
            "wait_for_completion_or_create_check_status_response",
        ),
        _FRONT,
    ),
    **dict.fromkeys(("start", "stop", "ConcurrencyOptions"), _WORKER),
    **dict.fromkeys(
        (
            "use_versioning",
            "VersioningOptions",
            "VersionMatchStrategy",
            "VersionFailureStrategy",
            "new_version=",
        ),
        _VERSIONS,
    ),
    **dict.fromkeys(("version=", "default_version="), _VERSIONS),
    **dict.fromkeys(
        (
            "use_work_item_filters",
            "WorkItemFilters",
            "OrchestrationWorkItemFilter",
            "ActivityWorkItemFilter",
            "EntityWorkItemFilter",
        ),
        _FILTERS,
    ),
    **dict.fromkeys(
        (
            "configure_scheduled_tasks",
            "ScheduledTaskClient",
            "AsyncScheduledTaskClient",
            "ScheduleClient",
            "AsyncScheduleClient",
            "ScheduleCreationOptions",
            "ScheduleUpdateOptions",
            "ScheduleDescription",
            "ScheduleQuery",
            "ScheduleStatus",
            "ScheduleError",
            "ScheduleNotFoundError",
            "ScheduleClientValidationError",
            "ScheduleInvalidTransitionError",
        ),
        _SCHEDULES,
    ),
    **dict.fromkeys(
        ("DataConverter", "JsonDataConverter", "DEFAULT_DATA_CONVERTER", "data_converter="), _JSON
    ),
    **dict.fromkeys(
        (
            "GrpcChannelOptions",
            "GrpcRetryPolicyOptions",
            "DurableTaskSchedulerClient",
            "DurableTaskSchedulerWorker",
            "host_address=",
        ),
        _GRPC,
    ),
    **dict.fromkeys(
        ("PayloadStore", "LargePayloadStorageOptions", "configure_large_payloads"), _LARGE
    ),
    **dict.fromkeys(("histories",), _HISTORY),
    **dict.fromkeys(("configure_history_export",), _RETENTION),
    "ExceptionPropertiesProvider": "exceptions come back with their own attributes",
    "reuse_id_policy=": (
        "an id in use is refused, and a finished one is replaced; durable.start(if_exists=...)"
        " knows more"
    ),
    "EntityContext.schedule_new_orchestration": (
        "an entity starts no orchestrations; return what is to be started, and let the caller"
        " start it"
    ),
    "OrchestrationStateError": (
        "an orchestrator that breaks the rules gets TypeError or ForbiddenOperation"
    ),
    "EntityOperationFailedException": (
        "what an operation raises is raised by its call, in durabletask style as TaskFailedError"
    ),
    **dict.fromkeys(
        (
            "OrchestratorNotRegisteredError",
            "ActivityNotRegisteredError",
            "EntityNotRegisteredError",
        ),
        "code that a worker does not know waits for one that does; find(stuck=True) names it",
    ),
    "DurableFunctionsCompatibilityWarning": "there is no function.json to warn of",
    **dict.fromkeys(
        ("openai_agents", "durable_openai_agent_orchestrator"), "call the model from an activity"
    ),
    "task_hub_name=": "the store is that of the Durable",
    "connection_name=": "the store is that of the Durable",
    "execution_id=": "the history of the current execution is all there is",
    **dict.fromkeys(("scheduled",), _SCHEDULES),
    **dict.fromkeys(("history",), _HISTORY),
    **dict.fromkeys(("serialization",), _JSON),
    **dict.fromkeys(("payload",), _LARGE),
    **dict.fromkeys(("grpc_options",), _GRPC),
    **dict.fromkeys(("extensions",), _RETENTION),
    **dict.fromkeys(("http", "HttpManagementPayload"), _FRONT),
    "testing": (
        "the fixtures of celery_durable test orchestrations in process, see the guide to testing"
    ),
    "trigger": _HOST,
}


_MODULES = {
    "extensions",
    "grpc_options",
    "history",
    "http",
    "openai_agents",
    "payload",
    "scheduled",
    "serialization",
    "testing",
}


def unsupported(name: str) -> NotSupported:
    """Return the error for a name of Azure's that has no counterpart here."""
    why = MISSING.get(name, MISSING["trigger"])
    return NotSupported(f"{name} is not available: {why}. See the guide to porting from Azure")


def refuse_options(**options: Any) -> None:
    """Raise for the first option that was given; None is not given."""
    for name, value in options.items():
        if value is not None:
            raise unsupported(f"{name}=")


def refused(module: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module that refuses Azure's classes in words."""

    def look(name: str) -> Any:
        if name in MISSING and (name[0].isupper() or name in _MODULES):
            raise unsupported(name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return look
