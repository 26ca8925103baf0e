"""durabletask's worker: what registers its functions with a ``Durable``."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from .contexts import name_of
from .entities import entity_class
from .missing import refused, unsupported
from .running import Function, Unconnected, durabletask_activity, durabletask_orchestrator

__all__ = ["TaskHubGrpcWorker", "TaskHubWorker"]

__getattr__: Final = refused(__name__)


class TaskHubWorker(Unconnected):
    """durabletask's ``add_orchestrator``, ``add_activity`` and ``add_entity``, called or as
    decorators.

    Each registers a function under its name, without the module, and returns the Celery task, or
    the class of an entity. They are run by ``celery worker``: there is nothing to start.

    Args:
        durable: what the functions are registered with; that of the current Celery app if left out.
        options: of durabletask's connection to its sidecar; refused.
    """

    def add_orchestrator(self, fn: Function) -> Any:
        """Register ``def f(ctx, input)``."""
        return self.add_named_orchestrator(name_of(fn), fn)

    def add_named_orchestrator(self, name: str, func: Function) -> Any:
        """Register ``def f(ctx, input)`` under another name."""
        return self.durable.orchestrator(durabletask_orchestrator(func), name=name)

    def add_activity(self, fn: Function) -> Any:
        """Register ``def f(ctx, input)`` as a Celery task."""
        return self.durable.app.task(name=name_of(fn))(durabletask_activity(fn))

    def add_entity(self, fn: Any, name: str | None = None) -> Any:
        """Register ``def f(ctx, input)``, or a class of ``DurableEntity``."""
        chosen = fn.__name__ if name is None else name
        return self.durable.entity(entity_class(fn, chosen), name=chosen)

    def start(self) -> NoReturn:
        """Raise ``NotSupported``: the worker is a Celery worker."""
        raise unsupported("start")

    def stop(self) -> NoReturn:
        """Raise ``NotSupported``: the worker is a Celery worker."""
        raise unsupported("stop")

    def use_versioning(self, version: Any) -> NoReturn:
        """Raise ``NotSupported``: versions are declared with the orchestrator."""
        raise unsupported("use_versioning")

    def use_work_item_filters(self, filters: Any = None) -> NoReturn:
        """Raise ``NotSupported``: queues do that."""
        raise unsupported("use_work_item_filters")

    def configure_scheduled_tasks(self) -> NoReturn:
        """Raise ``NotSupported``: ``durable.schedule`` does that."""
        raise unsupported("configure_scheduled_tasks")


TaskHubGrpcWorker = TaskHubWorker
