"""The class whose objects are entities: what it has to be, and its operations."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._errors import ConfigurationError, PayloadError
from ..entity_names import LONGEST_NAME, entity_id
from ..names import ENTITY_NAME
from ..ports import Codec, SignatureTypes

__all__ = ["Declaration", "declaration_of", "declare", "id_of"]

_TAKEN = frozenset({"id", "signal", "state"})  # what a reference itself has
_MARK = "__durable_entity__"


@dataclass(frozen=True)
class Declaration:
    """A class whose objects are entities, and its operations."""

    name: str
    cls: type
    operations: tuple[str, ...]

    @property
    def takes_any(self) -> bool:
        """True if the class answers to names that it does not list, by ``__getattr__``: these are
        operations then.
        """
        return hasattr(self.cls, "__getattr__")

    def check(self, operation: str) -> None:
        """Refuse what is no operation.

        Raises:
            AttributeError: it is private, missing, or no method.
        """
        if operation not in self.operations and not (
            self.takes_any and not operation.startswith("_")
        ):
            has = ", ".join(self.operations) or "none"
            raise AttributeError(
                f"entity {self.name!r} has no operation {operation!r}; its public methods are:"
                f" {has}"
            )

    def check_arguments(
        self, operation: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuse arguments that an operation cannot take.

        Raises:
            TypeError: they do not fit.
        """
        found = inspect.getattr_static(self.cls, operation, None)
        if not inspect.isfunction(found):
            return
        try:
            inspect.signature(found).bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}.{operation}(): {error}") from None

    def types_of(self, operation: str, codec: Codec) -> SignatureTypes | None:
        """Return what the annotations of an operation say; None if it has no code of its own."""
        found = inspect.getattr_static(self.cls, operation, None)
        function = getattr(found, "__func__", found)
        if not inspect.isfunction(function):
            return None
        return codec.types_of(function, is_static=isinstance(found, staticmethod))

    def expect_fitting(
        self, operation: str, args: Sequence[Any], kwargs: Mapping[str, Any], codec: Codec
    ) -> None:
        """Refuse arguments that do not fit the annotations of an operation.

        Raises:
            PayloadError: one does not fit, or cannot be encoded.
        """
        if types := self.types_of(operation, codec):
            args, kwargs = codec.decode(codec.encode([list(args), dict(kwargs)]))
            try:
                types.decoded(args, kwargs)
            except PayloadError as error:
                raise PayloadError(f"{self.name}.{operation}(): {error}") from None


def declare(cls: Any, name: str | None = None) -> Declaration:
    """Check a class and make its objects entities.

    Raises:
        ConfigurationError: it cannot be one; the message says why.
        TypeError: it is no class.
    """
    if not inspect.isclass(cls):
        raise TypeError(f"an entity is declared by a class, not by {cls!r}")
    chosen = cls.__name__ if name is None else name
    if (
        not isinstance(chosen, str)
        or not ENTITY_NAME.fullmatch(chosen)
        or len(chosen) > LONGEST_NAME
    ):
        raise ConfigurationError(
            f"entity {chosen!r}: a name begins with a letter, continues with letters, digits, '_',"
            f" '.', '-', and has at most {LONGEST_NAME} characters"
        )
    operations = tuple(
        sorted(each for each in dir(cls) if not each.startswith("_") and _is_method(cls, each))
    )
    for each in operations:
        found = inspect.unwrap(getattr(cls, each))
        if (
            inspect.iscoroutinefunction(found)
            or inspect.isgeneratorfunction(found)
            or inspect.isasyncgenfunction(found)
        ):
            raise ConfigurationError(
                f"entity {chosen}: {each}() must be a plain method: an operation cannot wait. Let"
                " an orchestrator do that"
            )
    if wrong := sorted(_TAKEN.intersection(operations)):
        raise ConfigurationError(
            f"entity {chosen}: no operation can be called {', '.join(wrong)}: a reference has that"
        )
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise ConfigurationError(
            f"entity {chosen}: {cls.__name__}() must be possible without arguments: {error}"
        ) from None
    except ValueError:
        pass  # a class of C, which tells nothing
    if not cls.__dictoffset__:
        raise ConfigurationError(
            f"entity {chosen}: with __slots__ its objects have no attributes that could be kept"
        )
    declaration = Declaration(chosen, cls, operations)
    setattr(cls, _MARK, declaration)
    return declaration


def _is_method(cls: type, name: str) -> bool:
    found = inspect.getattr_static(cls, name)
    return inspect.isfunction(found) or isinstance(found, (staticmethod, classmethod))


def declaration_of(cls: type) -> Declaration:
    """Return the declaration of a class.

    Raises:
        TypeError: it is not declared; that of a base class does not count.
    """
    if not inspect.isclass(cls):
        raise TypeError(f"an entity is named by its class or its registered name, not by {cls!r}")
    found = cls.__dict__.get(_MARK)
    if not isinstance(found, Declaration):
        raise TypeError(f"{cls.__name__} is no entity: decorate the class with @durable.entity")
    return found


def id_of(cls: Any, key: Any) -> tuple[str, Declaration | None]:
    """Return the id of an entity, by its class or by its registered name, and the declaration if
    that is at hand.

    Raises:
        TypeError: it is neither, or the key is no string.
        ValueError: the name or the key does not fit.
    """
    if isinstance(cls, str):
        return entity_id(cls, key), None
    if not inspect.isclass(cls):
        raise TypeError(f"an entity is named by its class or its registered name, not by {cls!r}")
    declaration = declaration_of(cls)
    return entity_id(declaration.name, key), declaration
