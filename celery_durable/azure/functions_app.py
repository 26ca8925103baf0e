"""The apps of Azure Functions: decorators that register functions with a ``Durable``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from ..app.durable import Durable
from .entities import entity_class
from .functions import DurableFunctionsClient, SyncDurableFunctionsClient
from .missing import MISSING, unsupported
from .running import Function, activity_of, current_durable, orchestrator

__all__ = ["Blueprint", "DFApp", "Entity", "Orchestrator"]

_OF_THE_HOST = ("_trigger", "_input", "_output")
_ALSO_OF_THE_HOST = {"route", "schedule", "retry", "function_name"}


class Orchestrator:
    """Azure Functions' ``main = df.Orchestrator.create(orchestrator_function)``."""

    @staticmethod
    def create(fn: Function) -> Function:
        """Do the same as ``@df.orchestrator``."""
        return orchestrator(fn)


class Entity:
    """Azure Functions' ``main = df.Entity.create(entity_function)``: a class for
    ``@durable.entity(name=...)``.
    """

    @staticmethod
    def create(fn: Function) -> type:
        """Return the class that is run by ``def f(context)``."""
        return entity_class(fn)


@dataclass(frozen=True)
class Named:
    """A function of a blueprint, and the name under which it is registered.

    Calls take it like a Celery task.
    """

    function: Any
    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class Blueprint:
    """The decorators of Azure Functions, for an app to come: ``app.register_functions(blueprint)``.

    Names are those of the functions, without their module, as there.

    Args:
        http_auth_level: without effect: nothing here is reached by HTTP.
    """

    def __init__(self, http_auth_level: Any = None) -> None:
        self._app: DFApp | None = None
        self._registrations: list[Callable[[DFApp], object]] = []

    def orchestration_trigger(
        self,
        context_name: str,
        orchestration: str | None = None,
        input_type: Any = None,
        **options: Any,
    ) -> Callable[[Function], Any]:
        """Register an orchestrator: ``def f(context)``, or ``def f(ctx, input)`` as in durabletask.

        Args:
            context_name: not needed: the context is the first argument.
            orchestration: another name than the function's.
            input_type: what ``context.get_input()`` makes the input to.
            options: of ``@durable.orchestrator``.
        """

        def take(function: Function) -> Any:
            name = orchestration or function.__name__
            return self._take(
                function,
                name,
                lambda durable: durable.orchestrator(
                    orchestrator(function, input_type), name=name, **options
                ),
            )

        return take

    def activity_trigger(
        self, input_name: str, activity: str | None = None, **options: Any
    ) -> Callable[[Function], Any]:
        """Register an activity, which may be ``async``: a Celery task with one argument.

        Args:
            input_name: the parameter that gets the input.
            activity: another name than the function's.
            options: of ``@app.task``.
        """

        def take(function: Function) -> Any:
            name, translated = (
                activity or function.__name__,
                activity_of(function, input_name, **options),
            )
            return self._take(
                function, name, lambda durable: durable.app.task(name=name, **options)(translated)
            )

        return take

    def entity_trigger(
        self, context_name: str, entity_name: str | None = None, **options: Any
    ) -> Callable[[Any], Any]:
        """Register an entity: ``def f(context)``, ``def f(ctx, input)`` as in durabletask, or a
        class of ``DurableEntity``.

        Args:
            context_name: not needed: the context is the first argument.
            entity_name: another name than that of the function or class.
            options: of ``@durable.entity``.
        """

        def take(target: Any) -> Any:
            name = entity_name or target.__name__
            cls = entity_class(target, name)
            self._take(target, name, lambda durable: durable.entity(cls, name=name, **options))
            return target

        return take

    def durable_client_input(
        self, client_name: str, task_hub: str | None = None, connection_name: str | None = None
    ) -> Callable[[Function], Any]:
        """Give an ``async`` function a ``DurableFunctionsClient``, another a
        ``SyncDurableFunctionsClient``, by that name.

        Goes below the decorator of your web framework, in whose eyes the function lacks that
        parameter.

        Args:
            client_name: the parameter that gets the client.
            task_hub: without effect.
            connection_name: without effect.

        Raises:
            TypeError: the function has no such parameter.
        """

        def take(function: Function) -> Any:
            signature = inspect.signature(function)
            if client_name not in signature.parameters:
                raise TypeError(f"{function.__name__}() has no parameter {client_name!r}")

            is_async = inspect.iscoroutinefunction(function)
            client_class = DurableFunctionsClient if is_async else SyncDurableFunctionsClient

            others = [each for name, each in signature.parameters.items() if name != client_name]
            shown = signature.replace(parameters=others)

            @wraps(function)
            def run(*args: Any, **kwargs: Any) -> Any:
                client = (
                    kwargs.pop(client_name) if client_name in kwargs else client_class(self._home)
                )
                arguments = {**shown.bind(*args, **kwargs).arguments, client_name: client}
                # its stub asks for an OrderedDict
                given = inspect.BoundArguments(signature, arguments)  # type: ignore[arg-type]
                return function(*given.args, **given.kwargs)

            @wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                return await run(*args, **kwargs)

            found: Any = run_async if is_async else run
            found.__signature__ = shown
            return found

        return take

    def __getattr__(self, name: str) -> Any:
        if name in MISSING or name in _ALSO_OF_THE_HOST or name.endswith(_OF_THE_HOST):
            raise unsupported(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def _home(self) -> Durable:
        if self._app is None:
            raise RuntimeError(
                "this blueprint has no app yet: call app.register_functions(blueprint)"
            )
        return self._app.durable

    def _take(self, function: Any, name: str, register: Callable[[Durable], Any]) -> Any:
        self._registrations.append(lambda app: register(app.durable))
        return Named(function, name)

    def _join(self, app: DFApp) -> None:
        self._app = app
        for register in self._registrations:
            register(app)


class DFApp(Blueprint):
    """The same, registered at once.

    Args:
        durable: what the functions are registered with; that of the current Celery app if left out.
        http_auth_level: without effect: nothing here is reached by HTTP.
    """

    def __init__(self, durable: Durable | None = None, http_auth_level: Any = None) -> None:
        super().__init__(http_auth_level)
        self.durable: Durable = current_durable(durable)
        self._app = self

    def register_functions(self, function_container: Blueprint) -> None:
        """Register the functions of a blueprint; once for each blueprint."""
        function_container._join(self)

    register_blueprint = register_functions

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if "durable" in self.__dict__ and hasattr(self.durable.app, name):
                # `celery -A shop` takes what is called `app`, here as in Azure's programs
                raise AttributeError(
                    f"{error}: it is not Celery's app. On the command line name that one:"
                    " celery -A MODULE:NAME, such as celery -A shop:celery_app worker"
                ) from None
            raise

    def _take(self, function: Any, name: str, register: Callable[[Durable], Any]) -> Any:
        return register(self.durable)
