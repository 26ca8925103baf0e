"""Signatures as type checkers see them: they know what the task returns.

What they describe is Celery's own at run time. The protocols are met by ``TypedSignature``, and by
Celery's classes where the stubs of ``celery-types`` are installed.
"""

from __future__ import annotations

from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

__all__ = ["Annotation", "MakesSignature", "ResultOf", "SignatureOf", "TypedSignature"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class ResultOf(Protocol[R_co]):
    """The handle of what was sent, which gives the result."""

    def get(self, timeout: float | None = ..., propagate: bool = ...) -> R_co:
        """Wait for the result, and return it."""


class SignatureOf(Protocol[R_co]):
    """A signature of a task that returns an ``R_co``."""

    def set_immutable(self, immutable: bool) -> None:
        """See ``celery.canvas.Signature.set_immutable``."""

    def delay(self, *args: Any, **kwargs: Any) -> ResultOf[R_co]:
        """See ``celery.canvas.Signature.delay``."""


class MakesSignature(Protocol[R_co]):
    """A task that returns an ``R_co``."""

    name: Any

    def s(self, *args: Any, **kwargs: Any) -> SignatureOf[R_co]:
        """Return its signature with these arguments."""


if TYPE_CHECKING:
    from typing import _SpecialForm

    from typing_extensions import TypeAliasType

    #: What ``type=`` takes beside classes: ``Order | None``, ``Literal["a"]``, an alias.
    Annotation = UnionType | _SpecialForm | TypeAliasType

    class TypedSignature(Generic[R]):
        """A Celery signature whose result is of a known type; at run time it is Celery's own.

        It is none of the mappings for type checkers, though one at run time: as a mapping it would
        fit where nothing is known of its result.
        """

        args: tuple[Any, ...]
        kwargs: dict[str, Any]
        options: dict[str, Any]
        task: str

        def set(self, immutable: bool | None = None, **options: Any) -> TypedSignature[R]:
            """See ``celery.canvas.Signature.set``."""

        def set_immutable(self, immutable: bool) -> None:
            """See ``celery.canvas.Signature.set_immutable``."""

        def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> TypedSignature[R]:
            """See ``celery.canvas.Signature.clone``."""

        def delay(self, *args: Any, **kwargs: Any) -> ResultOf[R]:
            """See ``celery.canvas.Signature.delay``."""

        def apply_async(self, *args: Any, **options: Any) -> ResultOf[R]:
            """See ``celery.canvas.Signature.apply_async``."""

        def __or__(self, other: Any) -> Any: ...
        def __getitem__(self, key: str) -> Any: ...
        def get(self, key: str, default: Any = None) -> Any:
            """Return what a mapping holds: "task", "args", "kwargs", "options" and so on."""

else:
    Annotation = Any
    TypedSignature = dict
