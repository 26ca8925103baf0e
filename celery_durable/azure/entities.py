"""Entities of ``durabletask`` and of Azure Functions: their names, their locks, and their code as
classes of this package.

A function, or a class of ``DurableEntity``, keeps one value of its own. It becomes a class that
takes every operation, hands it to that code, and keeps that value in one attribute.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar, overload

from ..core.entity import Operation, current_operation
from ..core.references import EntityLock as CoreLock
from ..core.references import operation_message
from ..core.times import as_microseconds
from ..errors import ConfigurationError
from .entity_names import (
    STATE,
    TAKEN,
    EntityId,
    EntityInstanceId,
    arguments_of,
    aware,
    check_operation,
    declare_name,
    spelled,
)
from .missing import refused, unsupported
from .values import incoming, outgoing, parameter_type, positional_names

__all__ = [
    "DurableEntity",
    "DurableEntityContext",
    "EntityContext",
    "EntityId",
    "EntityInstanceId",
    "EntityLock",
    "EntityMetadata",
    "EntityStateResponse",
]

T = TypeVar("T")
__getattr__: Final = refused(__name__)

_UNSET = object()


# -- what clients see ------------------------------------------------------------------------------


@dataclass(frozen=True)
class EntityStateResponse:
    """What ``read_entity_state`` gives.

    ``entity_state`` is what the entity's code has set; of a class under ``@durable.entity`` a dict
    of its public attributes.
    """

    entity_exists: bool
    entity_state: Any = None


@dataclass(frozen=True)
class EntityMetadata:
    """What durabletask's client tells of an entity.

    Attributes:
        id: its name.
        last_modified: when it last took messages, naive UTC.
        backlog_queue_size: how many messages wait for the end of a lock.
        locked_by: the id of the orchestration that holds it; empty if none does.
        includes_state: whether its state was asked for.
        state: see ``EntityStateResponse``.
    """

    id: EntityInstanceId
    last_modified: datetime
    backlog_queue_size: int
    locked_by: str
    includes_state: bool
    state: Any

    def get_state(self, intended_type: Any = None) -> Any:
        """Return the state, made to a type if one is given."""
        return incoming(self.state, intended_type)

    def get_typed_state(self, intended_type: Any = None) -> Any:
        """Do the same as ``get_state``."""
        return self.get_state(intended_type)

    def get_locked_by(self) -> str | None:
        """Return the id of the orchestration that holds it, or None."""
        return self.locked_by or None


def shown_state(state: Mapping[str, Any] | None) -> Any:
    """Return an entity's state as Azure shows it; None if there is none."""
    return state[STATE] if state is not None and state.keys() == {STATE} else state


class EntityLock:
    """A block that holds entities: ``with (yield ctx.lock_entities([a, b])):``."""

    def __init__(self, lock: CoreLock) -> None:
        self._lock = lock

    def __enter__(self) -> EntityLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()


async def entered(lock: CoreLock) -> EntityLock:
    """Acquire a lock, and return what releases it at the end of a ``with``."""
    await lock.acquire()
    return EntityLock(lock)


# -- the code of an entity -------------------------------------------------------------------------


class EntityContext:
    """What an entity function of ``durabletask`` is given: one operation of one entity."""

    def __init__(self, holder: Any, operation: Operation) -> None:
        self._holder = holder
        self._operation = operation

    @property
    def entity_id(self) -> EntityInstanceId:
        """The name of the entity."""
        return EntityInstanceId.parse(self._operation.entity_id)

    @property
    def orchestration_id(self) -> str:
        """The id of the entity's instance, ``@name@key``."""
        return self._operation.entity_id

    @property
    def operation(self) -> str:
        """The name of the operation."""
        return self._operation.name

    @overload
    def get_state(self, intended_type: type[T], default: T) -> T: ...
    @overload
    def get_state(self, intended_type: type[T]) -> T | None: ...
    @overload
    def get_state(self, intended_type: None = None, default: Any = None) -> Any: ...
    def get_state(self, intended_type: Any = None, default: Any = None) -> Any:
        """Return the state, made to a type if one is given; the default if there is none."""
        state = getattr(self._holder, STATE)
        return default if state is None else incoming(state, intended_type)

    def set_state(self, new_state: Any) -> None:
        """Set the state; None deletes it."""
        setattr(self._holder, STATE, outgoing(new_state))

    def signal_entity(
        self,
        entity_instance_id: EntityInstanceId,
        operation: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> None:
        """Ask for an operation of an entity, one-way, if this one succeeds.

        Args:
            entity_instance_id: which; it may be this one.
            operation: its name.
            input: its argument.
            signal_time: when it is to come; UTC, if naive.
        """
        check_operation(operation)
        due = None if signal_time is None else as_microseconds(aware(signal_time))
        name = f"@{spelled(entity_instance_id)}@{entity_instance_id.key}"
        self._operation.signal(name, operation_message(operation, arguments_of(input), {}), due)

    def schedule_new_orchestration(
        self, orchestration_name: str, input: Any = None, instance_id: str | None = None
    ) -> str:
        """Raise ``NotSupported``: an entity starts no orchestrations."""
        raise unsupported("EntityContext.schedule_new_orchestration")


class DurableEntity:
    """The base of durabletask's entities that are classes.

    Operations are the public methods of a class below it.

    ``self.entity_context`` is the ``EntityContext``.
    """

    entity_context: EntityContext

    @overload
    def get_state(self, intended_type: type[T], default: T) -> T: ...
    @overload
    def get_state(self, intended_type: type[T]) -> T | None: ...
    @overload
    def get_state(self, intended_type: None = None, default: Any = None) -> Any: ...
    def get_state(self, intended_type: Any = None, default: Any = None) -> Any:
        """Return the state, made to a type if one is given; the default if there is none."""
        return self.entity_context.get_state(intended_type, default)

    def set_state(self, state: Any) -> None:
        """Set the state; None deletes it."""
        self.entity_context.set_state(state)

    def signal_entity(
        self,
        entity_instance_id: EntityInstanceId,
        operation: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> None:
        """Ask for an operation of an entity, one-way; see ``EntityContext.signal_entity``."""
        self.entity_context.signal_entity(entity_instance_id, operation, input, signal_time)

    def schedule_new_orchestration(
        self, orchestration_name: str, input: Any = None, instance_id: str | None = None
    ) -> str:
        """Raise ``NotSupported``: an entity starts no orchestrations."""
        return self.entity_context.schedule_new_orchestration(
            orchestration_name, input, instance_id
        )

    def delete(self, input: Any = None) -> None:
        """Delete the state: an operation that every entity has."""
        self.set_state(None)


class DurableEntityContext:
    """What an entity function of Azure Functions is given: one operation of one entity."""

    def __init__(self, context: EntityContext, given: Any) -> None:
        self._context = context
        self._given = given
        self._result: Any = _UNSET

    @property
    def entity_name(self) -> str:
        """The name under which the function is registered."""
        return self._context.entity_id.entity

    @property
    def entity_key(self) -> str:
        """The key of the entity."""
        return self._context.entity_id.key

    @property
    def operation_name(self) -> str:
        """The name of the operation."""
        return self._context.operation

    @property
    def is_newly_constructed(self) -> bool:
        """True as long as the entity has no state."""
        return self._context.get_state() is None

    def get_input(self, expected_type: Any = None) -> Any:
        """Return the argument of the operation, made to a type if one is given.

        None without one.
        """
        return incoming(self._given, expected_type)

    def get_state(
        self, initializer: Callable[[], Any] | None = None, expected_type: Any = None
    ) -> Any:
        """Return the state, made to a type if one is given.

        What ``initializer()`` gives if there is none.
        """
        state = self._context.get_state(expected_type, _UNSET)
        return (initializer() if callable(initializer) else None) if state is _UNSET else state

    def set_state(self, state: Any) -> None:
        """Set the state; None deletes it."""
        self._context.set_state(state)

    def set_result(self, result: Any) -> None:
        """Set what the call of the operation returns."""
        self._result = result

    def destruct_on_exit(self) -> None:
        """Delete the state."""
        self._context.set_state(None)

    def result(self, returned: Any) -> Any:
        """Return what was set as the result, else what the function returned."""
        return returned if self._result is _UNSET else self._result


Code = Callable[[EntityContext, Any], Any]


def entity_class(target: Any, name: str | None = None) -> type:
    """Return a class for ``@durable.entity`` that is run by Azure's code.

    Args:
        target: ``def f(context)`` of Azure Functions, ``def f(ctx, input)`` of durabletask, or a
            class of ``DurableEntity``.
        name: under which it will be declared; names of another case find it then.

    Raises:
        TypeError: it is none of these.
        ConfigurationError: an operation of the class has a name that is taken.
    """
    code = _code_of(target)

    class AzureEntity:
        azure_state: Any = None

        def __getattr__(self, operation: str) -> Callable[..., Any]:
            if operation.startswith("_"):
                raise AttributeError(operation)
            return partial(_operate, code, self)

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(AzureEntity, attribute, getattr(target, attribute, None))
    if name is not None:
        declare_name(name)
    return AzureEntity


def _operate(code: Code, holder: Any, given: Any = None) -> Any:
    return outgoing(code(EntityContext(holder, current_operation()), incoming(given)))


def _code_of(target: Any) -> Code:
    if inspect.isclass(target):
        return _code_of_class(target)
    if not callable(target):
        raise TypeError(f"an entity is a function or a class of DurableEntity, not {target!r}")
    if len(positional_names(target)) >= 2:
        wanted = parameter_type(target, 1)
        return lambda context, given: target(context, incoming(given, wanted))

    def code(context: EntityContext, given: Any) -> Any:
        theirs = DurableEntityContext(context, given)
        return theirs.result(target(theirs))

    return code


def _code_of_class(cls: Any) -> Code:
    if not issubclass(cls, DurableEntity):
        raise TypeError(
            f"{cls.__name__} is no DurableEntity; a class without that base goes under"
            " @durable.entity"
        )
    base = set(dir(DurableEntity)) - {"delete"}
    operations = {
        each for each in dir(cls) if not each.startswith("_") and callable(getattr(cls, each))
    } - base
    if wrong := sorted(operations & TAKEN):
        raise ConfigurationError(
            f"entity {cls.__name__}: no operation can be called {', '.join(wrong)}: rename it"
        )

    def code(context: EntityContext, given: Any) -> Any:
        if context.operation not in operations:
            has = ", ".join(sorted(operations))
            raise AttributeError(
                f"entity {cls.__name__} has no operation {context.operation!r}; it has: {has}"
            )
        target = cls()
        target.entity_context = context
        method = getattr(target, context.operation)
        if given is None and not _needs_argument(method):
            return method()
        return method(incoming(given, parameter_type(method, 0)))

    return code


def _needs_argument(method: Any) -> bool:
    parameters = inspect.signature(method).parameters.values()
    named = [
        each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    return any(each.default is each.empty for each in named)
