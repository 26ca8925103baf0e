"""``Durable(app)``: the front door.

What it declares is in ``declare``, its hooks into Celery in ``install``, its engine is put together
in ``compose``; verbs and checks of code are methods of its bases.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from celery import Celery
from celery.app import base as celery_base

from ..conversion import Converters
from ..core.context import OrchestrationContext
from ..core.guard import refuse_inside_orchestrator
from ..core.plain_task import CARRIER, refuse_start
from ..core.retry import Interval, RetryPolicy
from ..core.typed import TypedSignature
from ..engine.propagation import Propagator, Propagators
from ..engine.registry import Registry
from ..engine.start import IfExists
from ..errors import ConfigurationError, InstanceNotFound
from ..forks import renew_in_children
from ..handles.aio import in_thread
from ..handles.canvas import ORCHESTRATOR as CANVAS
from ..handles.canvas import DurableCanvas, run_canvas
from ..handles.entity import EntityReference
from ..handles.orchestration import Orchestration
from ..settings import Settings
from .auditing import Auditing
from .code_checks import CodeChecks
from .completing import Completing
from .declare import Declarations, offer_queries
from .install import install
from .limiting import Limiting
from .looking import Looking, Page
from .scheduling import Scheduling
from .signatures import PlainChoice, requested
from .starting_many import StartingMany
from .steering import Steering
from .switching import Switching
from .transactional import make_transactional
from .typed import OrchestratorDecorator, OrchestratorOptions, Plain, TypedOrchestrator

if TYPE_CHECKING:
    from ..store import Store
    from ..worker.publisher import CeleryPublisher
    from ..worker.runtime import Runtime

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

__all__ = ["Durable", "Page", "install_again"]


class Durable(
    Looking,
    StartingMany,
    Scheduling,
    Steering,
    Completing,
    Switching,
    Limiting,
    Auditing,
    CodeChecks,
):
    """Durable orchestrations for one Celery app.

    Args:
        app: the app; or call ``init_app`` later.
    """

    def __init__(self, app: Celery | None = None) -> None:
        self._app: Celery | None = None
        self._runtime: Runtime | None = None
        self._lock = threading.RLock()
        #: The orchestrators and entities that were declared with it.
        self.declarations: Declarations = Declarations()
        #: What travels with an orchestration, beside headers.
        self.propagators: Propagators = Propagators()
        #: How values of the application's own types are written and read.
        self.converters: Converters = Converters()
        # declared before there was an app
        self._pending: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        renew_in_children(self, Durable._renew_lock)
        if app is not None:
            self.init_app(app)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    # -- installing --------------------------------------------------------------------------------

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
        """Install into an app: its tasks become activities, its workers recover.

        Example:
            >>> durable = Durable()
            >>> app = Celery("shop")
            >>> durable.init_app(app)
        """
        if getattr(app, "durable", None) not in (None, self):
            raise ConfigurationError(f"another Durable is installed in {app!r} already")
        self._app = app
        app.durable = self
        install(app, self._watch_tasks)
        pending, self._pending = self._pending, []
        # each app has one, of its own class
        self.orchestrator(run_canvas, name=CANVAS, shared=celery_base.USING_EXECV)
        self.orchestrator(refuse_start, name=CARRIER, shared=celery_base.USING_EXECV)
        for function, options in pending:
            self.orchestrator(function, **options)

    @property
    def registry(self) -> Registry:
        """The orchestrators that this process knows."""
        return self.declarations.registry

    def _watch_tasks(self, sender: Celery | None = None, **_: Any) -> None:
        self.declarations.watch(self.app)

    @property
    def settings(self) -> Settings:
        """The settings, read from ``app.conf`` when the engine is first used."""
        return self.runtime.settings

    @property
    def runtime(self) -> Runtime:
        """The engine of this process, made at first use, and once more if its store's name means
        another database now.
        """
        runtime = self._runtime
        if runtime is None or not runtime.is_current:
            with self._lock:
                runtime = self._runtime
                if runtime is None or not runtime.is_current:
                    if runtime is not None:
                        runtime.live.clear()
                        runtime.store.dispose()
                    self.app.finalize()
                    from .compose import compose

                    runtime = self._runtime = compose(
                        self.app,
                        self.registry,
                        propagators=self.propagators,
                        converters=self.converters,
                    )
        return runtime

    @contextmanager
    def running_on(
        self, store: Store, publisher: type[CeleryPublisher] | None = None
    ) -> Iterator[Runtime]:
        """Let this process's engine work on another store for a while, and send by another
        publisher: for tests.

        Example:
            >>> with durable.running_on(store):
            ...     durable.start(fulfil.s("42"))
        """
        from .compose import compose

        self.app.finalize()
        runtime = compose(
            self.app, self.registry, store, publisher, self.propagators, self.converters
        )
        before = self._runtime
        self._runtime = runtime
        try:
            yield runtime
        finally:
            self._runtime = before
            runtime.live.clear()

    def migrate(self) -> None:
        """Make the store's tables, or bring them to this release.

        Example:
            >>> durable.migrate()
        """
        from ..store import sql_store
        from ..store.migrate import migrate

        migrate(sql_store(self.runtime.store).database_without_check())

    # -- declaring ---------------------------------------------------------------------------------

    @overload
    def orchestrator(
        self, function: Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, R]], /
    ) -> TypedOrchestrator[P, R]: ...
    @overload
    def orchestrator(
        self, function: Callable[Concatenate[OrchestrationContext, P], Generator[Any, Any, R]], /
    ) -> TypedOrchestrator[P, R]: ...
    @overload
    def orchestrator(
        self, function: None = None, /, **options: Unpack[OrchestratorOptions]
    ) -> OrchestratorDecorator: ...
    @overload
    def orchestrator(
        self, function: Callable[Concatenate[OrchestrationContext, P], Plain], /
    ) -> TypedOrchestrator[P, Plain]: ...
    @overload
    def orchestrator(
        self, function: Callable[..., Any], /, *, name: str, **options: Any
    ) -> TypedOrchestrator[..., Any]: ...
    def orchestrator(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make a function an orchestrator: an ``async def``, a generator or a plain function that
        takes ``ctx`` first.

        Takes the options of ``@app.task``, ``version`` (a string), and ``max_activities``: how many
        activities of one instance may be under way at a time (``durable_max_instance_activities``
        if left out). ``limit`` (a number, ``Limit``, ``Rate`` or a list of them), ``debounce``
        (``Debounce``) and ``priority`` say when its instances may begin; ``retention`` (seconds,
        ``timedelta``, None for ever, or a mapping by status) says how long finished ones are kept;
        ``timeout`` (seconds or ``timedelta``) how long a whole run may take, from its first turn
        on. With ``upgrade=True`` an execution that continues as new has the newest version from
        then on.

        Several versions of one ``name`` may be declared side by side: an instance keeps the one
        that it started with, and new ones get the one that was declared last. They are one Celery
        task, whose options are those of the first.

        Raises:
            ConfigurationError: an option cannot be used.

        Example:
            >>> @durable.orchestrator(version="2", retention=timedelta(days=90))
            ... async def fulfil_order(ctx: OrchestrationContext, order: str) -> str:
            ...     return await ctx.call(charge.s(order))
        """
        if function is None:
            return lambda fn: self.orchestrator(fn, **options)
        if not callable(function):
            raise TypeError(f"an orchestrator is a function, not {type(function).__name__}")
        if self._app is None:
            queries: dict[str, Callable[..., Any]] = {}
            with suppress(AttributeError, TypeError):  # of a bound method, say
                offer_queries(function, function, queries)
            self._pending.append((function, {**options, "queries": queries}))
            return function
        return self.declarations.orchestrator(self.app, function, options)

    def transactional(
        self,
        function: Callable[..., Any] | None = None,
        *,
        isolation_level: str | None = None,
        using: str | None = None,
    ) -> Callable[..., Any]:
        """Let the rows that an activity writes and its recorded outcome be one commit: both are
        there, or neither.

        The function takes an SQLAlchemy ``session`` first (second if its task is bound), which
        callers leave out: it is on the store's database, and is committed when the function
        returns. Goes right below ``@app.task``. Called outside an orchestration, the function is a
        transaction of its own. Deadlocks and the like run it again, whole.

        In Django, ``using="default"`` names the store's alias instead: the function takes no
        session, its rows are those that it writes with the ORM on that alias, and it runs inside
        ``atomic()``.

        Args:
            function: a plain function.
            isolation_level: "READ COMMITTED" if left out, "REPEATABLE READ" or "SERIALIZABLE";
                SQLite is always serializable.
            using: the alias of a Django database, which is the store's.

        Raises:
            TypeError: the function is async or a generator, or takes no ``session``.
            ValueError: there is no such isolation level, or one is given with ``using``.

        Example:
            >>> @app.task
            ... @durable.transactional
            ... def book(session: Session, order: str) -> None:
            ...     session.execute(insert(bookings).values(order=order))
        """
        if function is None:
            return lambda chosen: make_transactional(self, chosen, isolation_level, using)
        return make_transactional(self, function, isolation_level, using)

    def entity(
        self, cls: Any = None, key: str | None = None, *, name: str | None = None, **options: Any
    ) -> Any:
        """Declare a class whose objects are entities, or return the reference to one of them.

        ``@durable.entity`` above a class declares it; with ``name=`` (the class's own if left out)
        and the options of ``@app.task`` for its messages, as ``queue=``. The class itself is
        returned. ``durable.entity(Counter, "visits")`` is a reference: ``.signal.add(1)`` sends,
        ``.state()`` looks. A process without the class gives its name: "Counter".

        Its public methods are its operations: plain methods, one at a time for each entity. Its
        state is its public attributes.

        Raises:
            ConfigurationError: the class cannot be one, or another one has that name.
            TypeError: of a reference: ``cls`` is no declared class and no name, or the key is no
                string.
            ValueError: of a reference: the name or the key does not fit.

        Example:
            >>> @durable.entity
            ... class Visits:
            ...     count: int = 0
            ...
            ...     def add(self, more: int) -> int:
            ...         self.count += more
            ...         return self.count
            >>> durable.entity(Visits, "home").signal.add(1)
        """
        if key is not None:
            if name is not None or options:
                raise TypeError("durable.entity(cls, key) is a reference, and takes nothing else")
            return EntityReference(self, cls, key)
        if cls is None:
            return lambda each: self.entity(each, name=name, **options)
        if isinstance(cls, str):
            raise TypeError(f"durable.entity({cls!r}) lacks the key of the entity")
        if (needed := self.declarations.entity(cls, name, options)) is not None:
            self.orchestrator(needed[1], name=needed[0], **options)
        return cls

    def propagate(self, propagator: Propagator) -> None:
        """Let a value travel with each orchestration: captured where it is started, and restored
        around each turn and each attempt of its activities and sub-orchestrations.

        For values in message headers, ``durable_propagate`` is enough.

        Args:
            propagator: any object with ``key`` (names the value in the store), ``capture()`` (a
                JSON value, or None for nothing) and ``restore(value)`` (a context manager).

        Raises:
            ConfigurationError: another one has that key, or it is no propagator.

        Example:
            >>> class Locale:
            ...     key = "locale"
            ...
            ...     def capture(self):
            ...         return get_language()
            ...
            ...     def restore(self, value):
            ...         return override(value)
            >>> durable.propagate(Locale())
        """
        self.propagators.add(propagator)

    def add_converter(
        self, type: type[T], *, encode: Callable[[T], Any], decode: Callable[[Any], T]
    ) -> None:
        """Let values of a class, and of its subclasses, be arguments, results and events.

        They are written as ``encode`` says, wherever they are; they are read where an annotation or
        ``type=`` names the class. The converter of the nearest class holds, before all that is
        built in.

        Args:
            type: the class.
            encode: gives JSON for a value.
            decode: gives the value for that JSON.

        Raises:
            TypeError: it is no class, or a function is none.

        Example:
            >>> class Money:
            ...     def __init__(self, cents):
            ...         self.cents = cents
            >>> durable.add_converter(Money, encode=lambda money: money.cents, decode=Money)
        """
        self.converters.add(type, encode, decode)

    # -- starting and looking ----------------------------------------------------------------------

    @overload
    def start(
        self,
        signature: TypedSignature[R],
        *,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        attempt_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        version: str | None = None,
    ) -> Orchestration[R]: ...
    @overload
    def start(
        self,
        signature: Any,
        *,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        attempt_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        version: str | None = None,
    ) -> Orchestration[Any]: ...
    def start(
        self,
        signature: Any,
        *,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        attempt_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        version: str | None = None,
    ) -> Orchestration[Any]:
        """Start an orchestration, or a plain task as one.

        A plain task is an orchestration of one activity: it runs at least once, whatever becomes of
        workers and broker, and its output is its result.

        Args:
            signature: of an orchestrator or of any task, such as ``fulfil_order.s(order)``; its
                options (queue, link, ...) are honoured.
            instance_id: 1 to 150 characters; a random UUID if left out. Starting twice with one id
                starts once.
            start_at: an aware ``datetime`` to begin at.
            tags: strings to find it by.
            if_exists: "return" the one there, "raise", "restart" a finished one, or "replace" any.
            session: an SQLAlchemy session or connection whose transaction the start joins.
            retry: of a plain task: how often it is tried; once if left out. ``retry_if`` must be
                importable.
            timeout: how long the whole run may take, from its first turn on, in seconds or as
                ``timedelta``; in the place of what the orchestrator declares. After that it goes as
                with ``cancel()``, and ends FAILED with ``OrchestrationTimeout``.
            attempt_timeout, heartbeat_timeout: of a plain task: of each attempt, as ``timeout`` and
                ``heartbeat_timeout`` of ``ctx.call``.
            version: which of the versions of its code it has; the newest if left out.

        Raises:
            InstanceExists, InvalidState: see ``if_exists``.
            TypeError: ``signature`` is not of a task, its arguments do not fit, it has an option
                without meaning, or an argument here is not for its kind.
            PayloadError: an argument cannot be encoded.
            StoreError: the store cannot be reached; nothing was started.
            ConfigurationError: this process does not have the version.

        Example:
            >>> run = durable.start(
            ...     fulfil.s("42"), instance_id="order-42", tags={"customer": "ada"}
            ... )
            >>> payment = durable.start(charge.s("42"), retry=RetryPolicy(max_attempts=5))
        """
        runtime = self.runtime
        request = requested(
            runtime,
            signature,
            instance_id,
            start_at,
            tags,
            if_exists,
            timeout=timeout,
            version=version,
            plain=PlainChoice(retry, attempt_timeout, heartbeat_timeout),
        )
        started = runtime.client.start(request, session)
        return Orchestration(started.id, app=self.app, nudge=started.nudge)

    async def astart(
        self, signature: Any, *, session: Any = None, **options: Any
    ) -> Orchestration[Any]:
        """Start an orchestration as ``start`` does, from code that runs on an event loop.

        What it returns has everything read: its properties touch no store.

        Args:
            signature: see ``start``.
            session: also an ``AsyncSession`` or ``AsyncConnection`` of SQLAlchemy (psycopg,
                asyncpg, aiosqlite, asyncmy), whose transaction the start joins.
            **options: those of ``start``.

        Example:
            >>> import asyncio
            >>> async def view():
            ...     run = await durable.astart(fulfil.s("43"), instance_id="order-43")
            ...     return run.runtime_status
            >>> status = asyncio.run(view())
        """
        refuse_inside_orchestrator("astart()")
        if hasattr(session, "run_sync"):
            started: Orchestration[Any] = await session.run_sync(
                lambda sync: self.start(signature, session=sync, **options)
            )
            return started
        return await in_thread(self._start_and_read, signature, session=session, **options)

    def _start_and_read(self, signature: Any, **options: Any) -> Orchestration[Any]:
        started = self.start(signature, **options)
        with suppress(InstanceNotFound):  # it is not committed yet
            started.refresh()
        return started

    def canvas(self, signature: Any) -> DurableCanvas:
        """Run any Celery canvas on this engine: ``durable.canvas(chain(a.s(1), group(b.s(), c.s()),
        d.s())).apply_async()``.

        Args:
            signature: a chain, group, chord, chunks, map or starmap, nested as deep as it likes, or
                a single signature.

        Example:
            >>> durable.canvas(chain(charge.s("42"), ship.s())).apply_async()
        """
        return DurableCanvas(self, signature)


def install_again(app: Celery) -> None:
    """Install into a copy of an app, as a process of a worker's pool has it that was spawned and
    not forked.

    Celery calls this as a fix-up, in the middle of the copy's making; so it is done at the end of
    that.
    """
    on_init = app.on_init

    def install() -> None:
        on_init()
        if getattr(app, "durable", None) is None:
            Durable(app)

    app.on_init = install
