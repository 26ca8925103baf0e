"""Store, engine and worker parts of one process, put together: the only place that does."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery import Celery

from ..conversion import Converters
from ..encoding import missing_serializer
from ..engine.cache import LiveExecutions
from ..engine.client import Client
from ..engine.engine import Engine
from ..engine.propagation import Propagators
from ..engine.registry import Registry
from ..errors import ConfigurationError
from ..payload import PayloadCodec
from ..settings import read_settings
from ..store import Store, open_store
from ..worker.publisher import CeleryPublisher
from ..worker.runtime import Runtime
from ..worker.sealing import accept_sealed, use_codec
from ..worker.task_events import TaskEvents
from ..worker.task_limits import CeleryTasks
from ..worker.telemetry_events import EventSender
from .archiving import LazyArchive
from .session import CallersTransactions
from .vaults import vault_of

__all__ = ["compose"]


def compose(
    app: Celery,
    registry: Registry,
    store: Store | None = None,
    publisher_class: type[CeleryPublisher] | None = None,
    propagators: Propagators | None = None,
    converters: Converters | None = None,
) -> Runtime:
    """Return the parts of an app's engine.

    Args:
        app: the app, which is finalized.
        registry: the orchestrators that it knows.
        store: where it keeps everything; the one that the settings name if left out.
        publisher_class: of what sends; ``CeleryPublisher`` if left out.
        propagators: of what travels with an orchestration.
        converters: of the application's own types.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    settings = read_settings(app.conf)
    if settings.serializer == "pickle" and "pickle" not in (app.conf.accept_content or ()):
        raise ConfigurationError(
            "durable_serializer='pickle' needs 'pickle' in accept_content: it runs code on read"
        )
    if (problem := missing_serializer(settings.serializer)) is not None:
        raise ConfigurationError(f"durable_serializer: {problem}", setting="durable_serializer")
    codec = PayloadCodec(
        settings.serializer,
        app.conf.accept_content or (),
        partial(_exception_modules, app),
        warning=settings.payload_warning,
        limit=settings.payload_limit,
        dump=partial(_dumped, app),
        converters=converters,
    )
    chosen = Propagators() if propagators is None else propagators
    if doubled := [name for name in settings.propagate if name in chosen]:
        raise ConfigurationError(
            f"{', '.join(doubled)} is a header of durable_propagate and the key of a propagator:"
            " give the propagator another key"
        )
    store = open_store(settings) if store is None else store
    store.database.vault = vault_of(settings)
    live = LiveExecutions(settings.cache_size)
    publisher = (publisher_class or CeleryPublisher)(
        app,
        store,
        codec,
        registry,
        turn_timeout=settings.turn_timeout + 10,
        stores_results=settings.store_activity_results,
        turn_queue=settings.turn_queue,
        context_headers=settings.propagate,
    )
    events = EventSender(app, codec)
    task_events = TaskEvents(app, store, codec, events, settings.worker_lease)
    tasks = CeleryTasks(app)
    engine = Engine(store, registry, codec, settings, publisher, live, chosen, tasks)
    transactions = CallersTransactions(store)
    archive = None if settings.archive is None else LazyArchive(settings.archive)
    client = Client(store, registry, codec, publisher, engine, transactions, archive)
    runtime = Runtime(
        app, settings, store, registry, codec, live, publisher, engine, client, task_events
    )
    runtime.events = events
    encoder = None if store.database.vault is None else store.database.vault.codec
    runtime.message_codec = publisher.activity_sender.message_codec = encoder
    use_codec(app, encoder)
    if encoder is not None:
        accept_sealed(app)
    engine.notifier.observers += [events, task_events]
    if settings.tracing:
        from ..telemetry.tracing import Tracing

        runtime.tracing = tracing = Tracing()
        publisher.watch(tracing)
        engine.notifier.observers.append(tracing)
    return runtime


def _exception_modules(app: Celery) -> set[str]:
    modules = {type(task).__module__ for task in app._tasks.values()}
    tasks = {module.partition(".")[0] for module in modules if module}  # of exec() it has none
    extra = app.conf.get("durable_exception_modules", ())
    return tasks | {"celery_durable", "celery", *extra}


def _dumped(
    app: Celery, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    # as of Celery 5.7
    dump = getattr(app._tasks.get(name), "_dump_pydantic_arguments", None)
    return (args, kwargs) if dump is None else dump(args, kwargs)
