"""``Durable(app)``: the front door. It wires the layers together and installs them into a Celery app."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from importlib import import_module
from typing import Any

from celery import Celery, shared_task, signals
from celery._state import _get_active_apps
from celery.schedules import crontab
from kombu.transport import TRANSPORT_ALIASES

from .canvas import ORCHESTRATOR as CANVAS
from .canvas import DurableCanvas, run_canvas
from .conf import Settings, read_settings
from .core.context import as_microseconds
from .core.entity import Declaration, declaration_of, declare, orchestrator_of, run_by
from .core.flow import read_retention
from .core.retry import Interval
from .core.status import RuntimeStatus
from .engine.cache import LiveExecutions
from .engine.client import Client, IfExists, StartRequest
from .engine.flow import declared_flow
from .engine.records import Filters, VersionUse
from .engine.registry import Definition, Registry
from .engine.repair import Forecast
from .engine.schedules import Overlap
from .engine.turn import TurnRunner
from .engine.verbs import BulkResult, apply_to_all, statuses_of
from .engine.verification import Verification, Verifier
from .entities import EntityPage, EntityReference, entities_of, entity_page
from .errors import ConfigurationError
from .forks import renew_in_children
from .payload import PayloadCodec
from .result import Orchestration
from .schedule import Schedule, declare_schedule, find_schedule, list_schedules
from .session import CallersTransactions
from .store import open_store
from .transactional import make_transactional
from .worker.activity import wrap_tasks
from .worker.announcer import Announcer
from .worker.bootstep import RecoveryStep
from .worker.events import EventSender
from .worker.orchestrator import OrchestratorTask
from .worker.publisher import CeleryPublisher
from .worker.request import hold_messages
from .worker.runtime import Runtime

__all__ = ["Durable", "Page", "entity", "orchestrator"]

TRANSPORT_ALIASES.setdefault("durable", "celery_durable.worker.transport:Transport")
_OWN_OPTIONS = ("version", "max_activities", "limit", "debounce", "retention")


@dataclass(frozen=True)
class Page:
    """One page of ``durable.find``; ``next_cursor`` is None on the last, ``previous_cursor`` on the first."""

    items: list[Orchestration]
    next_cursor: str | None
    previous_cursor: str | None = None


class Durable:
    """Durable orchestrations for one Celery app.

    Args:
        app: the app; or call ``init_app`` later.
    """

    def __init__(self, app: Celery | None = None) -> None:
        self._app: Celery | None = None
        self._runtime: Runtime | None = None
        self._lock = threading.RLock()
        self._declared: dict[str, _Declared] = {}
        self._pending: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        self._entities: dict[str, Declaration] = {}
        renew_in_children(self, Durable._renew_lock)
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
        _watch_flower()
        signals.import_modules.connect(_watch_flower, sender=app)
        for configured in (signals.after_setup_logger, signals.after_setup_task_logger):
            configured.connect(_add_log_fields, weak=False, dispatch_uid="celery_durable.logs")
        pending, self._pending = self._pending, []
        self.orchestrator(run_canvas, name=CANVAS)
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
            if isinstance(task, OrchestratorTask) and task.name not in self._declared:
                for function, own in task.durable_versions:
                    self.registry.add(Definition(task.name, function=function, **own))

    @property
    def registry(self) -> Registry:
        """The orchestrators that this process knows."""
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
        """The engine of this process, made at first use, and anew if its store's name comes to mean another database."""
        runtime = self._runtime
        if runtime is None or not runtime.is_current:
            with self._lock:
                runtime = self._runtime
                if runtime is None or not runtime.is_current:
                    if runtime is not None:
                        runtime.store.database.dispose()
                    self.app.finalize()
                    runtime = self._runtime = self._make_runtime()
        return runtime

    @contextmanager
    def running_on(self, store: Any, publisher: type[CeleryPublisher] = CeleryPublisher) -> Iterator[Runtime]:
        """Let this process's engine work on another store for a while, and send by another publisher: for tests."""
        self.app.finalize()
        before, self._runtime = self._runtime, self._make_runtime(store, publisher)
        try:
            yield self._runtime
        finally:
            self._runtime = before

    def _make_runtime(self, store: Any = None, publisher_class: type[CeleryPublisher] = CeleryPublisher) -> Runtime:
        app, settings = self.app, read_settings(self.app.conf)
        if settings.serializer == "pickle" and "pickle" not in (app.conf.accept_content or ()):
            raise ConfigurationError(
                "durable_serializer='pickle' needs 'pickle' in accept_content: it runs code on read"
            )
        codec = PayloadCodec(
            settings.serializer, app.conf.accept_content or (), self._exception_modules,
            warning=settings.payload_warning, limit=settings.payload_limit,
        )  # fmt: skip
        store = open_store(settings) if store is None else store
        live = LiveExecutions(settings.cache_size)
        publisher = publisher_class(
            app, store, codec, self.registry,
            turn_timeout=settings.turn_timeout + 10, stores_results=settings.store_activity_results,
        )  # fmt: skip
        events = EventSender(app)
        announcer = Announcer(app, store, codec, events, settings.worker_lease)
        runner = TurnRunner(store, self.registry, codec, settings, publisher, live)
        client = Client(store, self.registry, codec, publisher, runner, CallersTransactions(store))
        runtime = Runtime(app, settings, store, self.registry, codec, live, publisher, runner, client, announcer)
        runtime.events = events
        runner.observation.observers += [events, announcer]
        if settings.tracing:
            from .telemetry.tracing import Tracing

            runtime.tracing = publisher.tracing = tracing = Tracing()
            runner.observation.observers.append(tracing)
        return runtime

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

        Takes the options of ``@app.task``, ``version`` (a string), and ``max_activities``: how many activities of one
        instance may be under way at a time (``durable_max_instance_activities`` if left out). ``limit`` (a number,
        ``Limit``, ``Rate`` or a list of them), ``debounce`` (``Debounce``) and ``priority`` say when its instances may begin;
        ``retention`` (seconds, ``timedelta``, None for ever, or a mapping by status) says how long finished ones are kept.

        Several versions of one ``name`` may be declared side by side: an instance keeps the one that it started with, and new
        ones get the one that was declared last. They are one Celery task, whose options are those of the first.

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
        chosen, own = _task_options(function, options)
        name = chosen.get("name") or self.app.gen_task_name(function.__name__, function.__module__)
        declared = self._declared.get(name)
        if declared is None or own["version"] in declared.versions:
            base = chosen.pop("base", None) or _orchestrator_class(self.app)
            if not issubclass(base, OrchestratorTask):
                base = type("OrchestratorTask", (OrchestratorTask, base), {"abstract": True})
            declared = self._declared[name] = _Declared(self.app.task(base=base, **chosen)(function), chosen)
        declared.add_version(name, own["version"], chosen)
        self.registry.add(Definition(name, function=function, **own))
        return declared.task

    def transactional(
        self,
        function: Callable[..., Any] | None = None,
        *,
        isolation_level: str | None = None,
        using: str | None = None,
    ) -> Callable[..., Any]:
        """Let the rows that an activity writes and its recorded outcome be one commit: both are there, or neither.

        The function takes an SQLAlchemy ``session`` first (second if its task is bound), which callers leave out: it is on the
        store's database, and is committed when the function returns. Goes right below ``@app.task``. Called outside an
        orchestration, the function is a transaction of its own. Deadlocks and the like run it again, whole.

        In Django, ``using="default"`` names the store's alias instead: the function takes no session, its rows are those that
        it writes with the ORM on that alias, and it runs inside ``atomic()``.

        Args:
            function: a plain function.
            isolation_level: "READ COMMITTED" if left out, "REPEATABLE READ" or "SERIALIZABLE"; SQLite is always serializable.
            using: the alias of a Django database, which is the store's.

        Raises:
            TypeError: the function is async or a generator, or takes no ``session``.
            ValueError: there is no such isolation level, or one is given with ``using``.
        """
        if function is None:
            return lambda chosen: make_transactional(self, chosen, isolation_level, using)
        return make_transactional(self, function, isolation_level, using)

    def entity(self, cls: Any = None, key: str | None = None, *, name: str | None = None, **options: Any) -> Any:
        """Declare a class whose objects are entities, or return the reference to one of them.

        ``@durable.entity`` above a class declares it; with ``name=`` (the class's own if left out) and the options of
        ``@app.task`` for its messages, as ``queue=``. The class itself is returned. ``durable.entity(Counter, "visits")`` is a
        reference: ``.signal.add(1)`` sends, ``.state()`` looks. A process without the class gives its name: "Counter".

        Its public methods are its operations: plain methods, one at a time for each entity. Its state is its public attributes.

        Raises:
            ConfigurationError: the class cannot be one, or another one has that name.
            TypeError: of a reference: ``cls`` is no declared class and no name, or the key is no string.
            ValueError: of a reference: the name or the key does not fit.
        """
        if key is not None:
            if name is not None or options:
                raise TypeError("durable.entity(cls, key) is a reference, and takes nothing else")
            return EntityReference(self, cls, key)
        if cls is None:
            return lambda each: self.entity(each, name=name, **options)
        if isinstance(cls, str):
            raise TypeError(f"durable.entity({cls!r}) lacks the key of the entity")
        declaration = _declared_entity(self._entities, cls, name, options)
        orchestrator_name = orchestrator_of(declaration.name)
        if orchestrator_name in self._declared:
            self.registry.add(Definition(orchestrator_name, None, run_by(declaration)))
        else:
            self.orchestrator(run_by(declaration), name=orchestrator_name, **options)
        return cls

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
        started = runtime.client.start(request, session)
        return Orchestration(started.id, app=self.app, nudge=started.nudge)

    def canvas(self, signature: Any) -> DurableCanvas:
        """Run any Celery canvas on this engine: ``durable.canvas(chain(a.s(1), group(b.s(), c.s()), d.s())).apply_async()``.

        Args:
            signature: a chain, group, chord, chunks, map or starmap, nested as deep as it likes, or a single signature.
        """
        return DurableCanvas(self, signature)

    def _request(
        self, signature: Any, instance_id: str | None, start_at: datetime | None, tags: Mapping[str, str] | None,
        if_exists: IfExists, verb: str = "durable.start()",
    ) -> StartRequest:  # fmt: skip
        from .worker.orchestrator import _canvas_of_options

        if not isinstance(signature, Mapping) or "task" not in signature:
            given = "the orchestrator itself" if hasattr(signature, "s") else type(signature).__name__
            raise TypeError(f"{verb} takes a signature such as my_orchestrator.s(...), not {given}")
        name = str(signature["task"])
        task = self.app.tasks.get(name)
        if not isinstance(task, OrchestratorTask):
            what = f"the plain task {name!r}" if task is not None else f"{name!r}, which is not registered here"
            raise TypeError(
                f"{verb} takes an orchestrator, not {what}. Decorate it with @durable.orchestrator; a plain "
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

    def schedule(
        self,
        name: str,
        signature: Any,
        *,
        cron: str | crontab | None = None,
        interval: Interval | None = None,
        tz: str | tzinfo | None = None,
        overlap: Overlap = "skip",
        catch_up: Interval = 60,
        jitter: Interval = 0,
    ) -> Schedule:
        """Start an orchestration again and again, from now on; written to the store at once, as ``start`` is.

        Declared again with the same definition, nothing changes; with another one, that holds from now on.

        Args:
            name: 1 to 100 characters. The instance of a tick is ``<name>@<nominal time, UTC>``.
            signature: of an orchestrator, such as ``report.s("daily")``; its options (queue, link, ...) are honoured.
            cron: a crontab line of five fields, or Celery's ``crontab``.
            interval: seconds or ``timedelta``, instead: the ticks are its multiples, counted from now.
            tz: the time zone of ``cron``, such as "Europe/Berlin"; the app's ``timezone`` if left out.
            overlap: what becomes of a tick while the instance before it runs: "skip" it, "buffer" one until that ends,
                "cancel" that one, or "allow" both.
            catch_up: how old a tick may be, in seconds or as ``timedelta``, that no worker was there for, to run still.
            jitter: each start is delayed by up to so many seconds, always alike for the same tick.

        Raises:
            ValueError: the definition cannot be used; nothing was changed.
            TypeError: ``signature`` is not of an orchestrator, its arguments do not fit, or an option is of another type.
            PayloadError: an argument cannot be encoded.
            StoreError: the store cannot be reached.
        """
        request = self._request(signature, None, None, None, "return", "durable.schedule()")
        return declare_schedule(
            self.app, name, request, cron=cron, interval=interval, tz=tz, overlap=overlap, catch_up=catch_up, jitter=jitter
        )  # fmt: skip

    def schedules(self) -> list[Schedule]:
        """Return all schedules, by name."""
        return list_schedules(self.app)

    def get_schedule(self, name: str) -> Schedule:
        """Return the handle of a schedule.

        Raises:
            ScheduleNotFound: there is none; a ``LookupError``.
        """
        return find_schedule(self.app, name)

    def get(self, instance_id: str) -> Orchestration:
        """Return the handle of an orchestration.

        Raises:
            InstanceNotFound: there is none.
        """
        return Orchestration(instance_id, app=self.app, record=self.runtime.client.fetch(instance_id))

    def find(self, *, limit: int = 100, cursor: str | None = None, with_payloads: bool = False, **filters: Any) -> Page:
        """Return a page of orchestrations, newest first; entities only if ``name`` or ``id_prefix`` asks for them.

        Args:
            limit: at most this many.
            cursor: ``next_cursor`` or ``previous_cursor`` of the page at hand.
            with_payloads: read inputs and outputs too.
            **filters: ``status`` (one or a list), ``name``, ``version``, ``tags`` (all must match), ``id_prefix``,
                ``created_after`` and ``created_before`` (aware), ``parent_id``, ``roots`` (True: no sub-orchestrations, False:
                only these), ``stuck`` (True: those that should move and do not, because no worker has their code, takes their
                turn, or runs an activity).
        """
        if not 1 <= limit <= 1000:
            raise ValueError(f"limit must be from 1 to 1000, not {limit!r}")
        records, *cursors = self.runtime.store.find_page(_filters(filters), limit, cursor, with_payloads=with_payloads)
        return Page([Orchestration(record.id, app=self.app, record=record) for record in records], *cursors)

    def count(self, **filters: Any) -> int:
        """Return how many orchestrations match; the same filters as ``find``."""
        return int(self.runtime.store.count(_filters(filters)))

    def entities(self, cls: type | str | None = None, *, limit: int = 100, cursor: str | None = None) -> EntityPage:
        """Return a page of entities, those made last first.

        Args:
            cls: only those of this class, or registered name.
            limit: at most this many, up to 1000.
            cursor: ``next_cursor`` or ``previous_cursor`` of the page at hand.
        """
        if not 1 <= limit <= 1000:
            raise ValueError(f"limit must be from 1 to 1000, not {limit!r}")
        return entity_page(self.runtime, _entity_name(cls), limit, cursor)

    def clean_entities(self, cls: type | str | None = None) -> int:
        """Delete the entities that are empty, of one class or of all, and return how many there were.

        Empty is one whose attributes are all what the class begins with, that nobody has locked, and that no message waits
        for, also not a delayed one. The next message makes it anew.
        """
        return entities_of(self.runtime).clean(_entity_name(cls))

    # -- steering, one or many ----------------------------------------------------------------------------------------

    def suspend(self, instance_id: str | None = None, *, reason: str | None = None, **filters: Any) -> BulkResult:
        """Suspend one orchestration by its id, or all that match the filters of ``find``; see ``Orchestration.suspend``.

        All verbs here take ``limit=``, at most so many, newest first. Without ``status=`` they choose those on which they act.
        When a call breaks off, make it again: what is done stays done.

        Raises:
            ValueError: neither an id nor a filter is given.
            InvalidState, InstanceNotFound: for one given by its id; of many, they are in ``.refused``.
        """
        client = self.runtime.client
        return self._apply("suspend", lambda id_: client.suspend(id_, reason), instance_id, filters)

    def resume(self, instance_id: str | None = None, *, reason: str | None = None, **filters: Any) -> BulkResult:
        """Resume one or many; see ``suspend`` and ``Orchestration.resume``."""
        client = self.runtime.client
        return self._apply("resume", lambda id_: client.resume(id_, reason), instance_id, filters)

    def cancel(self, instance_id: str | None = None, *, reason: str | None = None, **filters: Any) -> BulkResult:
        """Ask one or many to cancel; see ``suspend`` and ``Orchestration.cancel``."""
        client = self.runtime.client
        return self._apply("cancel", lambda id_: client.cancel(id_, reason), instance_id, filters)

    def terminate(
        self, instance_id: str | None = None, *, output: Any = None, recursive: bool = True, reason: str | None = None,
        **filters: Any,
    ) -> BulkResult:  # fmt: skip
        """End one or many at once; see ``suspend`` and ``Orchestration.terminate``."""
        client = self.runtime.client
        verb = lambda id_: client.terminate(id_, reason, output, recursive=recursive)  # noqa: E731
        return self._apply("terminate", verb, instance_id, filters)

    def rewind(self, instance_id: str | None = None, *, reason: str | None = None, **filters: Any) -> BulkResult:
        """Rewind one or many failed ones; see ``suspend`` and ``Orchestration.rewind``."""
        client = self.runtime.client
        return self._apply("rewind", lambda id_: client.rewind(id_, reason), instance_id, filters)

    def restart(self, instance_id: str | None = None, **filters: Any) -> BulkResult:
        """Start one or many finished ones once more, in their own place; see ``suspend`` and ``Orchestration.restart``."""
        client = self.runtime.client
        return self._apply("restart", lambda id_: client.restart(id_, None), instance_id, filters)

    def fork(self, instance_id: str, *, at: int, new_id: str | None = None, reason: str | None = None) -> Orchestration:
        """Start another orchestration from a point in the history of one; see ``Orchestration.fork``."""
        return Orchestration(self.runtime.client.fork(instance_id, at, new_id, reason), app=self.app)

    def override(
        self, instance_id: str, call: int, result: Any = None, *, error: BaseException | None = None,
        reason: str | None = None, dry_run: bool = False,
    ) -> Forecast | None:  # fmt: skip
        """Give an activity or a sub-orchestration of one an outcome from outside; see ``Orchestration.override``."""
        client = self.runtime.client
        return client.override(instance_id, call, result, error, reason, is_dry=dry_run)

    def purge(self, instance_id: str | None = None, *, recursive: bool = True, **filters: Any) -> BulkResult:
        """Delete one or many finished ones; see ``suspend`` and ``Orchestration.purge``."""
        client = self.runtime.client
        return self._apply("purge", lambda id_: client.purge(id_, recursive=recursive), instance_id, filters)

    def _apply(
        self, name: str, verb: Callable[[str], object], instance_id: str | None, filters: dict[str, Any]
    ) -> BulkResult:
        if instance_id is not None:
            if filters:
                raise TypeError(f"durable.{name}() takes an instance id or filters, not both")
            verb(instance_id)
            return BulkResult(1, 1)
        limit = filters.pop("limit", None)
        if not filters:
            raise ValueError(f"durable.{name}() takes an instance id, or at least one filter, such as status=")
        return apply_to_all(self.runtime.store, _filters({"status": statuses_of(name), **filters}), verb, limit)

    # -- code that changes --------------------------------------------------------------------------------------------

    def replay(self, history: str | bytes | Mapping[str, Any], *, check_arguments: bool = False) -> int:
        """Replay a history that ``run.export_history()`` gave on the code of this process; return the number of its events.

        Args:
            history: the JSON document.
            check_arguments: whether other arguments of a call than the recorded ones are a disagreement too.

        Raises:
            NonDeterminismError: the code asks for something else than history holds; the text says what and where.
            PayloadError: the document is damaged.
            DurableError: no orchestrator of that name and version is registered here.
        """
        return self._verifier.replay(history, checks_arguments=check_arguments)

    def verify(
        self,
        histories: Iterable[str | bytes | Mapping[str, Any]] = (),
        *,
        live: bool = False,
        check_arguments: bool = False,
        **filters: Any,
    ) -> Verification:
        """Replay histories on the code of this process, and list those that it cannot follow; nothing is changed.

        Args:
            histories: documents that ``run.export_history()`` gave.
            live: look at every orchestration in the store that is not over: the gate of a deployment.
            check_arguments: see ``replay``.
            **filters: with ``live``, those of ``find`` but ``status``.
        """
        if not live:
            if filters:
                raise TypeError("filters choose among live orchestrations: pass live=True")
            return self._verifier.verify_documents(histories, checks_arguments=check_arguments)
        if histories:
            raise TypeError("verify() takes histories, or live=True, not both")
        chosen = _filters({"status": [status for status in RuntimeStatus if not status.is_terminal], **filters})
        return self._verifier.verify_live(chosen, checks_arguments=check_arguments)

    def versions(self) -> list[VersionUse]:
        """Return every name and version that is declared here or needed by an orchestration that is not over.

        ``.live`` is how many need it, ``.is_registered`` whether this process has it, ``.is_safe_to_remove`` that none needs it.
        """
        return self._verifier.versions()

    @property
    def _verifier(self) -> Verifier:
        runtime = self.runtime
        return Verifier(runtime.store, self.registry, runtime.runner)

    def raise_event(
        self, instance_id: str, name: str, data: Any = None, event_id: str | None = None, *, session: Any = None
    ) -> None:
        """Raise an external event on an orchestration; see ``Orchestration.raise_event``."""
        self.runtime.client.raise_event(instance_id, name, data, event_id, session)


@dataclass
class _Declared:
    """One orchestrator's Celery task, and the versions that share it."""

    task: Any
    options: dict[str, Any]
    versions: set[str | None] = field(default_factory=set)

    def add_version(self, name: str, version: str | None, options: Mapping[str, Any]) -> None:
        given = {key: value for key, value in options.items() if key not in ("name", "base")}
        if other := [key for key, value in given.items() if self.options.get(key) != value]:
            raise ConfigurationError(
                f"orchestrator {name}: version {version!r} is the same Celery task as the version before, with other "
                f"{', '.join(sorted(other))}. Give task options to the first version only"
            )
        self.versions.add(version)


def _watch_flower(**_: Any) -> None:
    """Give Flower the tab Orchestrations, in a process that has loaded Flower; in all others this does nothing."""
    if "flower.app" in sys.modules:
        import_module("celery_durable.contrib.flower").attach()


def _orchestrator_class(app: Celery) -> type:
    task_class = app.Task
    return type("OrchestratorTask", (OrchestratorTask, task_class), {"abstract": True, "app": app})


def _task_options(function: Callable[..., Any], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check the options of a declaration; return those of the Celery task, and our own."""
    chosen = {key: value for key, value in options.items() if key not in _OWN_OPTIONS}
    version = options.get("version")
    if version is not None and (not isinstance(version, str) or not version):
        raise ConfigurationError(f"version must be a string that is not empty, not {version!r}")
    most = options.get("max_activities")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise ConfigurationError(f"max_activities must be a number of at least 1, not {most!r}")
    return chosen, {
        "version": version, "max_activities": most, "flow": declared_flow(function, options),
        "retention": read_retention(options["retention"]) if "retention" in options else None,
    }  # fmt: skip


def entity(cls: Any = None, *, name: str | None = None, **options: Any) -> Any:
    """Declare a class whose objects are entities of whatever app is current, as ``celery.shared_task`` does for tasks.

    See ``Durable.entity``.
    """
    if cls is None:
        return lambda each: entity(each, name=name, **options)
    declaration = _declared_entity(_shared_entities, cls, name, options)
    orchestrator_name = orchestrator_of(declaration.name)
    if (shared := _shared.get(orchestrator_name)) is not None:
        _add_shared_version(shared, run_by(declaration), {"version": None, "max_activities": None})
    else:
        orchestrator(run_by(declaration), name=orchestrator_name, **options)
    return cls


_shared_entities: dict[str, Declaration] = {}


def _declared_entity(
    known: dict[str, Declaration], cls: Any, name: str | None, options: Mapping[str, Any]
) -> Declaration:
    if odd := sorted({"version", "max_activities", "bind"}.intersection(options)):
        raise ConfigurationError(f"an entity takes no {', '.join(odd)}=")
    chosen = getattr(cls, "__name__", None) if name is None else name
    other = known.get(str(chosen))
    if other is not None and (other.cls.__module__, other.cls.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ConfigurationError(
            f"entity {chosen!r} is {other.cls.__module__}.{other.cls.__qualname__} already: give another name= to "
            f"{cls.__module__}.{cls.__qualname__}"
        )
    declaration = declare(cls, name)
    known[declaration.name] = declaration
    return declaration


def _entity_name(cls: type | str | None) -> str | None:
    return cls if cls is None or isinstance(cls, str) else declaration_of(cls).name


def orchestrator(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function an orchestrator of whatever app is current, as ``celery.shared_task`` does for tasks."""
    if function is None:
        return lambda fn: orchestrator(fn, **options)
    chosen, own = _task_options(function, options)
    name = chosen.get("name") or f"{function.__module__}.{function.__name__}"
    shared = _shared.get(name)
    if shared is None or own["version"] in shared.versions:
        versions: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        base = chosen.pop("base", OrchestratorTask)
        if not issubclass(base, OrchestratorTask):
            base = type("OrchestratorTask", (OrchestratorTask, base), {"abstract": True})
        task = shared_task(base=base, durable_versions=versions, **chosen)(function)
        shared = _shared[name] = _Declared(task, {**chosen, "durable_versions": versions})
    shared.add_version(name, own["version"], chosen)
    _add_shared_version(shared, function, own)
    return shared.task


def _add_shared_version(shared: _Declared, function: Callable[..., Any], own: Mapping[str, Any]) -> None:
    """Add a version to a shared orchestrator, also where its task is registered already."""
    shared.options["durable_versions"].append((function, own))
    for app in _get_active_apps():
        if app.finalized and isinstance(getattr(app, "durable", None), Durable):
            app.durable._watch_tasks()


_shared: dict[str, _Declared] = {}


def _start_of(runtime: Runtime, options: Mapping[str, Any]) -> int | None:
    from .worker.orchestrator import _start_at

    return _start_at(runtime, options)


def _filters(given: Mapping[str, Any]) -> Filters:
    known = {"status", "name", "version", "tags", "id_prefix", "created_after", "created_before", "parent_id"}
    known |= {"stuck", "roots"}
    if unknown := set(given) - known:
        raise TypeError(f"unknown filters: {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    status = given.get("status")
    several: Sequence[Any] = () if status is None else ([status] if isinstance(status, str) else list(status))
    moments = {
        key: None if given.get(key) is None else as_microseconds(given[key])
        for key in ("created_after", "created_before")
    }
    name = given.get("name")
    chooses = name is not None or given.get("id_prefix") is not None
    return Filters(
        statuses=tuple(RuntimeStatus(value) for value in several), name=getattr(name, "name", name),
        version=given.get("version"), tags=tuple(sorted((given.get("tags") or {}).items())),
        id_prefix=given.get("id_prefix"), parent_id=given.get("parent_id"), stuck=given.get("stuck"),
        roots=given.get("roots"), entities=None if chooses else False, **moments,
    )  # fmt: skip


def _add_log_fields(logger: Any = None, **_: Any) -> None:
    """Let the records of a logger that Celery has set up say which orchestration they belong to."""
    from .telemetry.logs import install

    install(logger)


def _sqlite_path(url: str) -> str | None:
    from .store.addresses import address_of

    try:
        parsed = address_of(url).url
    except ConfigurationError:
        return None  # the store says so itself, when it is used
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return parsed.database if is_file else None
