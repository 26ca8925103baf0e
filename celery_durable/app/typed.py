"""The decorators as type checkers see them: the orchestrator's own parameters and its result.

At run time these names are Celery's and ours; nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    overload,
)

if TYPE_CHECKING:  # who only declares imports no database
    from sqlalchemy.orm import Session

    from ..core.context import OrchestrationContext
    from ..core.limits import Debounce, Limit, Rate
    from ..core.retry import Interval, RetryPolicy
    from ..core.status import RuntimeStatus
    from ..core.typed import TypedSignature
    from ..engine.start import IfExists
    from ..handles.orchestration import Orchestration

__all__ = [
    "BulkFilters",
    "EntityOptions",
    "Filters",
    "ManyStarts",
    "OneStart",
    "OrchestratorDecorator",
    "OrchestratorOptions",
    "Plain",
    "TransactionalDecorator",
    "TypedOrchestrator",
]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
#: What a plain function may return, for type checkers to tell it from a generator.
Plain = TypeVar("Plain", None, bool, int, float, str, bytes, list[Any], dict[str, Any])


class TypedOrchestrator(Generic[P, R]):
    """An orchestrator: a Celery task whose parameters are those after ``ctx``."""

    name: str
    # what Celery's tasks have besides; all of it is named, so that a misspelt name is none
    app: Any
    backend: Any
    request: Any
    run: Callable[..., Any]
    apply: Callable[..., Any]
    AsyncResult: Callable[..., Any]
    subtask: Callable[..., Any]
    map: Callable[..., Any]
    starmap: Callable[..., Any]
    chunks: Callable[..., Any]
    delay_on_commit: Callable[..., Any]  # in Django
    apply_async_on_commit: Callable[..., Any]
    queue: Any
    priority: Any
    rate_limit: Any
    serializer: Any
    expires: Any
    throws: Any
    ignore_result: Any
    acks_late: Any
    send_events: Any
    __name__: str
    __wrapped__: Callable[..., Any]

    def s(self, *args: P.args, **kwargs: P.kwargs) -> TypedSignature[R]:
        """Return its signature with these arguments."""
        raise NotImplementedError

    def si(self, *args: P.args, **kwargs: P.kwargs) -> TypedSignature[R]:
        """Return its immutable signature with these arguments."""
        raise NotImplementedError

    def signature(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> TypedSignature[R]:
        """Return its signature, with options."""
        raise NotImplementedError

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Orchestration[R]:
        """Start it."""
        raise NotImplementedError

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Orchestration[R]:
        """Start it, with Celery's options."""
        raise NotImplementedError

    @overload
    def query(self, function: F, /) -> F: ...
    @overload
    def query(self, function: None = None, *, name: str | None = None) -> Callable[[F], F]: ...
    def query(self, function: Any = None, *, name: str | None = None) -> Any:
        """Declare a query: a plain function that says something of ``ctx.state``."""
        raise NotImplementedError


class TaskOptions(TypedDict, total=False):
    """The options of ``@app.task`` that have a meaning for orchestrators and entities."""

    priority: int | None
    base: type[Any] | None
    shared: bool
    queue: str | None
    exchange: str | None
    exchange_type: str | None
    routing_key: str | None
    delivery_mode: int | str | None
    serializer: str | None
    compression: str | None
    expires: float | datetime | None
    rate_limit: str | float | None
    time_limit: float | None
    soft_time_limit: float | None
    ignore_result: bool
    store_errors_even_if_ignored: bool
    send_events: bool
    trail: bool
    throws: tuple[type[BaseException], ...]
    acks_late: bool
    acks_on_failure_or_timeout: bool
    reject_on_worker_lost: bool
    resultrepr_maxsize: int
    lazy: bool


class OrchestratorOptions(TaskOptions, total=False):
    """The options of ``@durable.orchestrator``: its own, and those of ``@app.task``."""

    name: str | None
    version: str | None
    max_activities: int | None
    limit: int | Limit | Rate | Sequence[int | Limit | Rate] | None
    debounce: Debounce | None
    retention: float | timedelta | Mapping[str, float | timedelta | None] | None
    timeout: float | timedelta | None
    upgrade: bool


class EntityOptions(TaskOptions, total=False):
    """The options of ``@durable.entity``, beside ``name``."""

    limit: int | Limit | Rate | Sequence[int | Limit | Rate] | None
    retention: float | timedelta | Mapping[str, float | timedelta | None] | None


class OrchestratorDecorator(Protocol):
    """What ``@durable.orchestrator(...)`` gives, which takes the function."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, R]], /
    ) -> TypedOrchestrator[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[OrchestrationContext, P], Generator[Any, Any, R]], /
    ) -> TypedOrchestrator[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[OrchestrationContext, P], Plain], /
    ) -> TypedOrchestrator[P, Plain]: ...


class TransactionalDecorator(Protocol):
    """What ``@durable.transactional(...)`` gives, which takes the function."""

    @overload
    def __call__(self, function: Callable[Concatenate[Session, P], R], /) -> Callable[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...


class StartOptions(TypedDict, total=False):
    """What ``start`` and ``start_many`` both take of each start."""

    start_at: datetime | None
    if_exists: IfExists
    retry: RetryPolicy | None
    timeout: Interval | None
    attempt_timeout: Interval | None
    heartbeat_timeout: Interval | None
    version: str | None


class OneStart(StartOptions, total=False):
    """What ``astart`` takes, beside ``session``."""

    instance_id: str | None
    tags: Mapping[str, str] | None


class ManyStarts(StartOptions, total=False):
    """What ``astart_many`` takes, beside ``session``."""

    instance_ids: Sequence[str | None] | None
    tags: Mapping[str, str] | Sequence[Mapping[str, str] | None] | None


class Filters(TypedDict, total=False):
    """What ``durable.find`` and its kin choose by; all that are given must match."""

    status: RuntimeStatus | str | Sequence[RuntimeStatus | str] | None
    name: str | None
    version: str | None
    tags: Mapping[str, str] | None
    id_prefix: str | None
    #: Aware.
    created_after: datetime | None
    created_before: datetime | None
    parent_id: str | None
    #: True: no sub-orchestrations; False: only these.
    roots: bool | None
    #: True: those that should move and do not.
    stuck: bool | None
    #: True: plain tasks that were started durably; False: none of these.
    tasks: bool | None


class BulkFilters(Filters, total=False):
    """What verbs for many choose by."""

    #: At most so many, newest first.
    limit: int | None
