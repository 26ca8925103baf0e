"""Declaring on ``Durable``: orchestrators, activities' transactions, entities, what travels."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

if TYPE_CHECKING:
    from celery import Celery
    from sqlalchemy.orm import Session

    from ..conversion import Converters
    from ..core.context import OrchestrationContext
    from ..engine.propagation import Propagator, Propagators
    from ..handles.entity import EntityReference
    from ..worker.runtime import Runtime
    from .declare import Declarations
    from .typed import (
        EntityOptions,
        OrchestratorDecorator,
        OrchestratorOptions,
        Plain,
        TransactionalDecorator,
        TypedOrchestrator,
    )

__all__ = ["Declaring"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Declaring:
    """What an application declares, before or after there is an app."""

    if TYPE_CHECKING:

        @property
        def app(self) -> Celery:
            """The Celery app."""

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    def __init__(self) -> None:
        from ..conversion.converters import Converters
        from ..engine.propagation import Propagators
        from .declare import Declarations

        self._app: Celery | None = None
        #: The orchestrators and entities that were declared with it.
        self.declarations: Declarations = Declarations()
        #: What travels with an orchestration, beside headers.
        self.propagators: Propagators = Propagators()
        #: How values of the application's own types are written and read.
        self.converters: Converters = Converters()
        # declared before there was an app
        self._pending: list[tuple[Callable[..., Any], dict[str, Any]]] = []

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
            from .declare import offer_queries

            queries: dict[str, Callable[..., Any]] = {}
            with suppress(AttributeError, TypeError):  # of a bound method, say
                offer_queries(function, function, queries)
            self._pending.append((function, {**options, "queries": queries}))
            return function
        return self.declarations.orchestrator(self.app, function, options)

    @overload
    def transactional(
        self, function: Callable[Concatenate[Session, P], R], /
    ) -> Callable[P, R]: ...
    @overload
    def transactional(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def transactional(
        self, *, isolation_level: str | None = None, using: None = None
    ) -> TransactionalDecorator: ...
    @overload
    def transactional(self, *, using: str) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def transactional(
        self,
        function: Callable[..., Any] | None = None,
        *,
        isolation_level: str | None = None,
        using: str | None = None,
    ) -> Any:
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
        from .transactional import make_transactional

        if function is None:
            return lambda chosen: make_transactional(self, chosen, isolation_level, using)
        return make_transactional(self, function, isolation_level, using)

    @overload
    def entity(self, cls: type[T], /) -> type[T]: ...
    @overload
    def entity(
        self, cls: None = None, /, *, name: str | None = None, **options: Unpack[EntityOptions]
    ) -> Callable[[type[T]], type[T]]: ...
    @overload
    def entity(
        self, cls: type[T], /, *, name: str, **options: Unpack[EntityOptions]
    ) -> type[T]: ...
    @overload
    def entity(self, cls: type[T], /, key: str) -> EntityReference[T]: ...
    @overload
    def entity(self, cls: str, /, key: str) -> EntityReference[Any]: ...
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
                string, or left out of a class that is declared.
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
            from ..handles.entity import EntityReference

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
