"""The orchestrator as a Celery task: one name and one task id for the whole life of an
orchestration.

Three kinds of message reach it. A *start* from a process without this extension creates the
instance; a *turn* moves it and ends in ``Ignore``, so that Celery sees nothing final; the *finish*
message alone returns or raises, and so carries link, chain, chord and result.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from celery import Task, states
from celery.result import EagerResult

from ..core.status import RuntimeStatus
from ..engine.start import Started
from ..errors import DurableError, InstanceNotFound, StoreError
from ..handles.orchestration import Orchestration
from ..interrupts import shielded
from .context_headers import look_instead
from .ends import shown_arguments
from .headers import HEADER
from .limits import defer_soft_limit
from .runtime import runtime_of
from .starting import request_of
from .turn_queues import common_queue
from .turn_tracer import QuietTracer, raise_pending

__all__ = ["OrchestratorTask", "end_of", "started_here"]

log: logging.Logger = logging.getLogger("celery_durable.orchestrator")


class OrchestratorTask(Task):  # type: ignore[misc]
    """The task class of orchestrators.

    ``run`` is the user's function and takes the context first.
    """

    abstract = True
    typing = False
    acks_late = True
    track_started = False
    __trace__: QuietTracer = QuietTracer()
    #: The versions of an orchestrator that was declared without an app: functions, and the rest of
    #: their definitions.
    durable_versions: Sequence[tuple[Callable[..., Any], dict[str, Any]]] = ()

    def __init__(self) -> None:
        # it calls ``run``, directly or by ``super()``: a turn happens within it
        if self.has_own_call:
            own: Any = self.run  # type: ignore[has-type]
            self.run = functools.wraps(own)(functools.partial(self._run))

    @property
    def queue(self) -> str | None:
        """The queue of its messages, where the orchestrator declares none:
        ``durable_turn_queue``.
        """
        return common_queue(self.app.conf.get("durable_turn_queue"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take a turn when a worker calls.

        Call the user's function itself when anybody else does.
        """
        return (
            super().__call__(*args, **kwargs) if self.has_own_call else self._run(*args, **kwargs)
        )

    durable_call = __call__

    @property
    def has_own_call(self) -> bool:
        """Whether the application's task class is around each call, as that of Flask's manual, and
        so around each turn.
        """
        return super(OrchestratorTask, type(self)).__call__ is not Task.__call__

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        request = self.request
        if request.called_directly:
            return self._function()(*args, **kwargs)
        from .receive import Receiver  # a worker has it, by its bootstep

        raise_pending(request)
        defer_soft_limit()
        with shielded(drops=True):  # a turn has a limit of its own
            return Receiver(self, runtime_of(self.app), request).receive(args, kwargs)

    def shown_arguments(self, instance_id: str) -> dict[str, Any]:
        """Return what the last message of an orchestration is to tell of its arguments.

        Nothing if that is not known.

        The message does not carry them: they may be large, and are in the store.
        """
        runtime = runtime_of(self.app)
        try:
            record = runtime.store.reads.fetch(instance_id)
            return {} if record is None else shown_arguments(runtime.codec, record)
        except DurableError:
            log.debug("the arguments of %r cannot be read", instance_id, exc_info=True)
            return {}

    # -- starting ----------------------------------------------------------------------------------

    @property
    def sends_by(self) -> Any:
        """The function by which ``publish`` sends: Celery's, or that of the application's task
        class.
        """
        return super(OrchestratorTask, type(self)).apply_async

    def publish(self, args: tuple[Any, ...], kwargs: dict[str, Any], **options: Any) -> Any:
        """Send a message of this task as it is."""
        return super().apply_async(args, kwargs, **options)

    def run_message(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> None:
        """Run a message of this task here instead of sending it."""
        run = self.publish if self.app.conf.task_always_eager else super().apply
        run(args, kwargs, **{**options, "throw": False})

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Orchestration:
        """Start an orchestration; the same as ``durable.start`` with Celery's own options.

        Raises:
            TypeError: the arguments do not fit the orchestrator, or it takes no such option.
            ValueError: ``eta`` or ``expires`` has no time zone.
            PayloadError: an argument cannot be encoded.
            StoreError: the store cannot be reached; nothing was started. (Inside a worker's task
                the plain message is sent instead, and creates the orchestration where the store can
                be reached.)
            Exception: with ``task_always_eager`` and ``task_eager_propagates``, what the
                orchestration failed with.
        """
        options.update(link=link, link_error=link_error, shadow=shadow)
        result = self._start(args or (), kwargs or {}, task_id, options)
        conf = self.app.conf
        if (
            conf.task_always_eager
            and conf.task_eager_propagates
            and not runtime_of(self.app).publisher.is_draining
        ):
            end_of(result, throw=True)
        return result

    def _start(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_id: str | None,
        options: Mapping[str, Any],
    ) -> Orchestration:
        runtime = runtime_of(self.app)
        request = request_of(runtime, self, args, kwargs, options, instance_id=task_id)
        try:
            started = runtime.client.start(request)
        except StoreError:
            if (
                self.app.current_worker_task is None
                or runtime.runner.starter.transactions.find() is not None
            ):
                raise  # nothing is sent before the commit that decides it
            log.warning(
                "the store cannot be reached: %s is started by a plain message",
                self.name,
                exc_info=True,
            )
            given = {key: value for key, value in options.items() if value is not None}
            self.publish(tuple(request.args), dict(request.kwargs), task_id=task_id, **given)
            return Orchestration(task_id or "", app=self.app)
        return started_here(self, started, options)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int | None = None,
        throw: bool | None = None,
        logfile: Any = None,
        loglevel: Any = None,
        headers: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> EagerResult:
        """Run an orchestration here, with all that it calls, and return its result.

        It is in the store as any other.

        Celery does this with ``task_always_eager`` for each member of a chain, a group or a chord.

        Args:
            throw: raise what it fails with; ``task_eager_propagates`` if left out.

        Raises:
            DurableError: it waits for what nothing here brings about: an event, a long timer, the
                commit of a transaction.
            TypeError, PayloadError, StoreError: see ``apply_async``.
        """
        look_instead(headers)
        # Celery's own ``apply_async``, with one of our messages
        if (headers or {}).get(HEADER) is not None:
            # by name, as Celery calls it: an application's own ``apply`` may take the headers so
            return super().apply(
                args,
                kwargs,
                link=link,
                link_error=link_error,
                task_id=task_id,
                retries=retries,
                throw=throw,
                logfile=logfile,
                loglevel=loglevel,
                headers=headers,
                **options,
            )
        options.update(link=link, link_error=link_error, headers=headers)
        with runtime_of(self.app).publisher.at_once():
            run = self._start(args or (), kwargs or {}, task_id, options)
        return end_of(run, throw=self.app.conf.task_eager_propagates if throw is None else throw)

    def map(self, it: Any) -> NoReturn:
        """Refuse: one message cannot run several orchestrations.

        Raises:
            TypeError: always; the text says what to do.
        """
        raise TypeError(
            f"{self.name} is an orchestrator, and cannot be mapped within one message: use"
            f" group({self.__name__}.s(item) for item in items), or ctx.map({self.__name__}, items)"
            " in an orchestrator"
        )

    starmap = map

    def chunks(self, it: Any, n: int) -> NoReturn:
        """Refuse, as ``map`` does.

        Raises:
            TypeError: always.
        """
        self.map(it)

    def check_arguments(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], version: str | None = None
    ) -> None:
        """Refuse arguments that the orchestrator cannot take, of its newest version if none is
        named.

        Raises:
            TypeError: they do not fit its signature.
            ConfigurationError: this process does not have the version.
        """
        try:
            _signature_of(self._function(version)).bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None

    def _function(self, version: str | None = None) -> Callable[..., Any]:
        """Return the function that new instances run."""
        durable = getattr(self.app, "durable", None)
        definition = None if durable is None else durable.registry.chosen(self.name, version)
        own: Any = type(self)
        function: Callable[..., Any] = own.run if definition is None else definition.function
        return function

    def query(self, function: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
        """Declare a query: a plain function of ``(state, *args, **kwargs)`` that says something of
        ``ctx.state``, by its own name or another one.

        Raises:
            TypeError: it is no plain function.
            ConfigurationError: there is another one of that name.

        Example:
            >>> @fulfil.query
            ... def address(state):
            ...     return state.address
        """
        from ..engine.query_declaration import QueryDeclaration

        definition = self.app.durable.registry.newest(self.name)
        return QueryDeclaration(self.name, definition.queries)(function, name=name)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> Orchestration:  # noqa: N802
        """Return the handle of an orchestration of this task, which a canvas may start only
        later.
        """
        return Orchestration(task_id, app=self.app, may_come=True)


def started_here(task: Any, started: Started, options: Mapping[str, Any]) -> Orchestration:
    """Return the handle of what ``apply_async`` has started, and tell the task that runs here."""
    result = Orchestration(started.id, app=task.app, nudge=started.nudge)
    parent = task.app.current_worker_task
    if parent is not None and options.get("add_to_parent", True):
        parent.add_trail(result)
    return result


def end_of(run: Orchestration, *, throw: bool) -> EagerResult:
    """Return the result of an orchestration that was run here.

    Raises:
        DurableError: it is not over.
        Exception: what it failed with, if ``throw`` says so.
    """
    try:
        status = run.refresh().runtime_status
    except InstanceNotFound:
        raise DurableError(
            f"orchestration {run.id!r} begins when the transaction around its start commits, and so"
            " cannot be run at once; start it outside of it",
            instance_id=run.id,
        ) from None
    if not status.is_terminal:
        waits = "; ".join(run.explain().waits_for) or str(status)
        raise DurableError(
            f"orchestration {run.id!r} cannot be run at once, it waits for {waits}. Start it by"
            " durable.start(), and bring that about; or let a worker run it",
            instance_id=run.id,
        )
    output = run.get(propagate=throw)
    state = {RuntimeStatus.COMPLETED: states.SUCCESS, RuntimeStatus.FAILED: states.FAILURE}.get(
        status, states.REVOKED
    )
    return EagerResult(run.id, output, state, name=run.name)


@functools.cache
def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)
