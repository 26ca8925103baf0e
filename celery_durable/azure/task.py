"""The names of ``durabletask.task``: what orchestrators, activities and entities are
written with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias, TypeVar

from ..errors import NonDeterminismError
from .contexts import ReplaySafeLogger, name_of
from .durabletask_context import OrchestrationContext
from .entities import DurableEntity, EntityContext, EntityInstanceId, EntityLock
from .errors import FailureDetails, TaskCancelledError, TaskFailedError
from .futures import (
    CancellableTask,
    CompletableTask,
    CompositeTask,
    RetryableTask,
    Task,
    TimerTask,
    WhenAllTask,
    WhenAnyTask,
    when_all,
    when_any,
)
from .missing import refused
from .retry import RetryPolicy
from .running import ActivityContext

__all__ = [
    "Activity",
    "ActivityContext",
    "CancellableTask",
    "CompletableTask",
    "CompositeTask",
    "DurableEntity",
    "Entity",
    "EntityContext",
    "EntityInstanceId",
    "EntityLock",
    "FailureDetails",
    "NonDeterminismError",
    "OrchestrationContext",
    "Orchestrator",
    "ReplaySafeLogger",
    "RetryPolicy",
    "RetryableTask",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "TimerTask",
    "WhenAllTask",
    "WhenAnyTask",
    "get_entity_name",
    "get_name",
    "when_all",
    "when_any",
]

TInput = TypeVar("TInput")
TOutput = TypeVar("TOutput")

Orchestrator: TypeAlias = Callable[
    [OrchestrationContext, TInput], Generator[Task[Any], Any, TOutput] | TOutput
]
Activity: TypeAlias = Callable[[ActivityContext, TInput], TOutput]
Entity: TypeAlias = Callable[[EntityContext, TInput], TOutput] | type[DurableEntity]

__getattr__: Final = refused(__name__)


def get_name(fn: Any) -> str:
    """Return the name under which a function is registered; of a Celery task, its own.

    Raises:
        ValueError: it is a lambda.
    """
    return name_of(fn)


def get_entity_name(fn: Any) -> str:
    """Return the name under which the function or class of an entity is registered."""
    return str(fn.__name__) if inspect.isclass(fn) else name_of(fn)
