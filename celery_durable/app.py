"""``Durable(app)``: the front door. It wires the layers together and installs them into a Celery app."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import Celery, shared_task
from kombu.transport import TRANSPORT_ALIASES

from .conf import Settings, read_settings
from .core.context import as_microseconds
from .core.status import RuntimeStatus
from .engine.cache import LiveExecutions
from .engine.client import Client, IfExists, StartRequest, check_session_policy
from .engine.records import Filters
from .engine.registry import Definition, Registry
from .engine.turn import TurnRunner
from .errors import ConfigurationError, InstanceExists
from .payload import PayloadCodec
from .result import Orchestration
from .store import open_store
from .worker.activity import wrap_tasks
from .worker.bootstep import RecoveryStep
from .worker.orchestrator import OrchestratorTask
from .worker.publisher import CeleryPublisher
from .worker.request import hold_messages
from .worker.runtime import Runtime

__all__ = ["Durable", "Page", "orchestrator"]

TRANSPORT_ALIASES.setdefault("durable", "celery_durable.worker.transport:Transport")
_OWN_OPTIONS = ("version",)


@dataclass(frozen=True)
class Page:
    """One page of ``durable.find``; ``next_cursor`` is None on the last."""

    items: list[Orchestration]
    next_cursor: str | None


class Durable:
    """Durable orchestrations for one Celery app.

    Args:
        app: the app; or call ``init_app`` later.
    """

    def __init__(self, app: Celery | None = None) -> None:
        self._app: Celery | None = None
        self._runtime: Runtime | None = None
        self._lock = threading.RLock()
        self._pending: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        os.register_at_fork(after_in_child=self._renew_lock)
        if app is not None:
            self.init_app(app)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    # -- installing -----------------------------------------------------------------------------------------

    @property
    def app(self) -> Celery:
        """The Celery app.

        Raises:
            ConfigurationError: there is none yet.
        """
        if self._app is None:
            raise ConfigurationError("this Durable has no app yet: call durable.init_app(app)")
        return self._app

    def init_app(self, app: Celery) -> None:
        """Install into an app: its tasks become activities, its workers recover."""
        if getattr(app, "durable", None) not in (None, self):
            raise ConfigurationError(f"another Durable is installed in {app!r} already")
        self._app = app
        app.durable = self
        if not hasattr(app, "_durable_user_backend"):
            app._durable_user_backend = app.backend_cls
            app.backend_cls = "celery_durable.worker.backend:make_backend"
            app._backend_cache = None
            app._local.__dict__.pop("backend", None)
        app.on_after_configure.connect(self._place_embedded_broker, weak=False)
        app.on_after_finalize.connect(self._watch_tasks, weak=False)
        if app.finalized:
            self._watch_tasks(app)
        app.steps["worker"].add(RecoveryStep)
        pending, self._pending = self._pending, []
        for function, options in pending:
            self.orchestrator(function, **options)

    def _place_embedded_broker(self, sender: Celery | None = None, **_: Any) -> None:
        """Put the embedded broker's file beside the SQLite store, unless its URL or options name one."""
        conf = self.app.conf
        url = str(conf.get("broker_url") or "")
        options = dict(conf.get("broker_transport_options") or {})
        if url.startswith("durable:") and not url.partition("://")[2].strip("/") and "path" not in options:
            database = _sqlite_path(conf.get("durable_backend_url", Settings.backend_url))
            if database is not None:
                conf.broker_transport_options = {**options, "path": f"{os.path.splitext(database)[0]}-broker.db"}

    def _watch_tasks(self, sender: Celery | None = None, **_: Any) -> None:
        wrap_tasks(self.app)
        hold_messages(self.app)
        for task in list(self.app._tasks.values()):
            if isinstance(task, OrchestratorTask):
                self._register(task)

    def _register(self, task: OrchestratorTask) -> None:
        self._registry.add(Definition(task.name, task.durable_version, task.run))

    @property
    def _registry(self) -> Registry:
        registry: Registry | None = self.__dict__.get("_registry_of_app")
        if registry is None:
            registry = self.__dict__["_registry_of_app"] = Registry()
        return registry

    @property
    def settings(self) -> Settings:
        """The settings, read from ``app.conf`` when the engine is first used."""
        return self.runtime.settings

    @property
    def runtime(self) -> Runtime:
        """The engine of this process, made at first use."""
        if self._runtime is None:
            with self._lock:
                if self._runtime is None:
                    self.app.finalize()
                    self._runtime = self._make_runtime()
        return self._runtime

    def _make_runtime(self) -> Runtime:
        app, settings = self.app, read_settings(self.app.conf)
        accept = [
            name for name in (app.conf.accept_content or ()) if name != "pickle" or settings.serializer == "pickle"
        ]
        if settings.serializer == "pickle" and "pickle" not in (app.conf.accept_content or ()):
            raise ConfigurationError(
                "durable_serializer='pickle' needs 'pickle' in accept_content: it runs code on read"
            )
        codec = PayloadCodec(
            settings.serializer, accept, self._exception_modules,
            warning=settings.payload_warning, limit=settings.payload_limit,
        )  # fmt: skip
        store = open_store(settings)
        live = LiveExecutions(settings.cache_size)
        publisher = CeleryPublisher(
            app, store, codec, self._registry,
            turn_timeout=settings.turn_timeout, stores_results=settings.store_activity_results,
        )  # fmt: skip
        runner = TurnRunner(store, self._registry, codec, settings, publisher, live)
        client = Client(store, self._registry, codec, publisher, runner)
        return Runtime(app, settings, store, self._registry, codec, live, publisher, runner, client)

    def _exception_modules(self) -> set[str]:
        tasks = {type(task).__module__.partition(".")[0] for task in self.app._tasks.values()}
        extra = self.app.conf.get("durable_exception_modules", ())
        return tasks | {"celery_durable", "celery", *extra}

    def migrate(self) -> None:
        """Make the store's tables, or bring them to this release."""
        from .store.migrate import migrate

        migrate(self.runtime.store.database_without_check())

    # -- declaring ------------------------------------------------------------------------------------------------

    def orchestrator(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Make a function an orchestrator: an ``async def``, a generator or a plain function that takes ``ctx`` first.

        Takes the options of ``@app.task``, and ``version`` (a string).

        Raises:
            ConfigurationError: an option cannot be used.
        """
        if function is None:
            return lambda fn: self.orchestrator(fn, **options)
        if not callable(function):
            raise TypeError(f"an orchestrator is a function, not {type(function).__name__}")
        if self._app is None:
            self._pending.append((function, options))
            return function
        base = options.pop("base", None) or _orchestrator_class(self.app)
        if not issubclass(base, OrchestratorTask):
            base = type("OrchestratorTask", (OrchestratorTask, base), {"abstract": True})
        task = self.app.task(base=base, **_task_options(options))(function)
        if self.app.finalized:
            self._register(self.app.tasks[task.name])
        return task

    # -- starting and looking ---------------------------------------------------------------------------------------

    def start(
        self,
        signature: Any,
        *,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
    ) -> Orchestration:
        """Start an orchestration.

        Args:
            signature: of an orchestrator, such as ``fulfil_order.s(order)``; its options (queue, link, ...) are honoured.
            instance_id: 1 to 150 characters; a random UUID if left out. Starting twice with one id starts once.
            start_at: an aware ``datetime`` to begin at.
            tags: strings to find it by.
            if_exists: "return" the one there, "raise", "restart" a finished one, or "replace" any.
            session: an SQLAlchemy session or connection whose transaction the start joins.

        Raises:
            InstanceExists, InvalidState: see ``if_exists``.
            TypeError: ``signature`` is not of an orchestrator, or its arguments do not fit.
            PayloadError: an argument cannot be encoded.
            StoreError: the store cannot be reached; nothing was started.
        """
        runtime = self.runtime
        request = self._request(signature, instance_id, start_at, tags, if_exists)
        if session is None:
            return Orchestration(runtime.client.start(request), app=self.app)
        check_session_policy(if_exists)
        new = runtime.client.prepare(request)
        from .session import join_transaction

        result = Orchestration(new.id, app=self.app)
        with join_transaction(session, runtime.store) as (cursor, on_commit):
            is_new = runtime.store.insert_instance_with(cursor, new)
            if not is_new and if_exists == "raise":
                raise InstanceExists(f"there is an orchestration {new.id!r} already", instance_id=new.id)
            if is_new:
                on_commit(lambda: runtime.client.nudge(new))
                result._nudge = lambda: runtime.client.nudge(new)
        return result

    def _request(
        self, signature: Any, instance_id: str | None, start_at: datetime | None, tags: Mapping[str, str] | None,
        if_exists: IfExists,
    ) -> StartRequest:  # fmt: skip
        from .worker.orchestrator import _canvas_of_options

        if not isinstance(signature, Mapping) or "task" not in signature:
            raise TypeError(
                f"durable.start() takes a signature such as my_orchestrator.s(...), not {type(signature).__name__}"
            )
        name = str(signature["task"])
        task = self.app.tasks.get(name)
        if not isinstance(task, OrchestratorTask):
            what = f"the plain task {name!r}" if task is not None else f"{name!r}, which is not registered here"
            raise TypeError(
                f"durable.start() takes an orchestrator, not {what}. Decorate it with @durable.orchestrator; a plain "
                "task is started by .delay()"
            )
        args, kwargs = tuple(signature.get("args") or ()), dict(signature.get("kwargs") or {})
        task.check_arguments(args, kwargs)
        options = dict(signature.get("options") or {})
        begin = as_microseconds(start_at) if start_at is not None else _start_of(self.runtime, options)
        return StartRequest(
            name, args, kwargs, instance_id=options.get("task_id") if instance_id is None else instance_id,
            start_at=begin, tags=tags, if_exists=if_exists, queue=self.runtime.publisher.route(name, options),
            canvas=_canvas_of_options(task, options), root_id=options.get("root_id"),
        )  # fmt: skip

    def get(self, instance_id: str) -> Orchestration:
        """Return the handle of an orchestration.

        Raises:
            InstanceNotFound: there is none.
        """
        return Orchestration(instance_id, app=self.app, record=self.runtime.client.fetch(instance_id))

    def find(self, *, limit: int = 100, cursor: str | None = None, with_payloads: bool = False, **filters: Any) -> Page:
        """Return a page of orchestrations, newest first.

        Args:
            limit: at most this many.
            cursor: ``next_cursor`` of the page before.
            with_payloads: read inputs and outputs too.
            **filters: ``status`` (one or a list), ``name``, ``version``, ``tags`` (all must match), ``id_prefix``,
                ``created_after`` and ``created_before`` (aware), ``parent_id``.
        """
        if not 1 <= limit <= 1000:
            raise ValueError(f"limit must be from 1 to 1000, not {limit!r}")
        records, next_cursor = self.runtime.store.find(_filters(filters), limit, cursor, with_payloads=with_payloads)
        return Page([Orchestration(record.id, app=self.app, record=record) for record in records], next_cursor)

    def count(self, **filters: Any) -> int:
        """Return how many orchestrations match; the same filters as ``find``."""
        return int(self.runtime.store.count(_filters(filters)))

    def raise_event(
        self, instance_id: str, name: str, data: Any = None, event_id: str | None = None, *, session: Any = None
    ) -> None:
        """Raise an external event on an orchestration; see ``Orchestration.raise_event``."""
        runtime = self.runtime
        if session is None:
            runtime.client.raise_event(instance_id, name, data, event_id)
            return
        message = runtime.client.event_message(instance_id, name, data, event_id)
        from .session import join_transaction

        with join_transaction(session, runtime.store) as (cursor, on_commit):
            runtime.store.put_with(cursor, [message])
            on_commit(lambda: self._publish(instance_id))

    def _publish(self, instance_id: str) -> None:
        for address in self.runtime.store.turn_addresses([instance_id]):
            self.runtime.publisher.publish_turn(address)


def _orchestrator_class(app: Celery) -> type:
    task_class = app.Task
    return type("OrchestratorTask", (OrchestratorTask, task_class), {"abstract": True, "app": app})


def _task_options(options: dict[str, Any]) -> dict[str, Any]:
    chosen = {key: value for key, value in options.items() if key not in _OWN_OPTIONS}
    if "retention" in options:
        raise ConfigurationError("retention= is not available yet: purge finished orchestrations by run.purge()")
    version = options.get("version")
    if version is not None and (not isinstance(version, str) or not version):
        raise ConfigurationError(f"version must be a string that is not empty, not {version!r}")
    chosen["durable_version"] = version
    return chosen


def orchestrator(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function an orchestrator of whatever app is current, as ``celery.shared_task`` does for tasks."""
    if function is None:
        return lambda fn: orchestrator(fn, **options)
    base = options.pop("base", OrchestratorTask)
    if not issubclass(base, OrchestratorTask):
        base = type("OrchestratorTask", (OrchestratorTask, base), {"abstract": True})
    return shared_task(base=base, **_task_options(options))(function)


def _start_of(runtime: Runtime, options: Mapping[str, Any]) -> int | None:
    from .worker.orchestrator import _start_at

    return _start_at(runtime, options)


def _filters(given: Mapping[str, Any]) -> Filters:
    known = {"status", "name", "version", "tags", "id_prefix", "created_after", "created_before", "parent_id"}
    if unknown := set(given) - known:
        raise TypeError(f"unknown filters: {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    status = given.get("status")
    several: Sequence[Any] = () if status is None else ([status] if isinstance(status, str) else list(status))
    moments = {
        key: None if given.get(key) is None else as_microseconds(given[key])
        for key in ("created_after", "created_before")
    }
    name = given.get("name")
    return Filters(
        statuses=tuple(RuntimeStatus(value) for value in several), name=getattr(name, "name", name),
        version=given.get("version"), tags=tuple(sorted((given.get("tags") or {}).items())),
        id_prefix=given.get("id_prefix"), parent_id=given.get("parent_id"), **moments,
    )  # fmt: skip


def _sqlite_path(url: str) -> str | None:
    import sqlalchemy as sa

    parsed = sa.make_url(url)
    return parsed.database if parsed.get_backend_name() == "sqlite" else None
