"""Signatures as type checkers see them: they know what the task returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

__all__ = ["TypedSignature"]

R = TypeVar("R")

if TYPE_CHECKING:

    class TypedSignature(dict[str, Any], Generic[R]):
        """A Celery signature whose result is of a known type; at run time it is Celery's own."""

        args: tuple[Any, ...]
        kwargs: dict[str, Any]
        options: dict[str, Any]
        task: str

        def set(self, immutable: bool | None = None, **options: Any) -> TypedSignature[R]:
            """See ``celery.canvas.Signature.set``."""

        def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> TypedSignature[R]:
            """See ``celery.canvas.Signature.clone``."""

        def delay(self, *args: Any, **kwargs: Any) -> Any:
            """See ``celery.canvas.Signature.delay``."""

        def apply_async(self, *args: Any, **options: Any) -> Any:
            """See ``celery.canvas.Signature.apply_async``."""

        def __or__(self, other: Any) -> Any: ...

else:
    TypedSignature = dict
