"""What the annotations of the orchestrators of this process say of their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.ports import CallTypes, Codec

if TYPE_CHECKING:
    from .registry import Definition
    from .tasks import Tasks
    from .version_choice import VersionChoice

__all__ = ["DeclaredTypes", "expect_fitting"]


class DeclaredTypes(CallTypes):
    """The annotations of one orchestrator, and of those that it calls."""

    def __init__(
        self,
        codec: Codec,
        versions: VersionChoice,
        tasks: Tasks,
        instance_id: str,
        definition: Definition,
    ) -> None:
        self._codec = codec
        self._tasks = tasks
        self._versions = versions
        self._instance_id = instance_id
        self._definition = definition

    def arguments(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments of this execution as the annotations of its code say.

        Raises:
            PayloadError: one does not fit.
        """
        return self._codec.types_of(self._definition.function).decoded(args, kwargs)

    def check_call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Expect that arguments fit an orchestrator, as far as it is known here.

        Raises:
            PayloadError: one does not fit.
        """
        definition = self._versions.registry.newest(name)
        if definition is not None:
            expect_fitting(self._codec, definition, [list(args), dict(kwargs)])

    def check_next(
        self, upgrade: bool | str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Expect that arguments fit the next execution, if that has the code of this one.

        Raises:
            PayloadError: one does not fit.
        """
        here = self._definition
        version = self._versions.following(here, self._instance_id, upgrade)
        if version == here.version:
            expect_fitting(self._codec, here, [list(args), dict(kwargs)])

    def signature_of(self, task: str) -> inspect.Signature | None:
        """Return the signature of a task; None where its code is not known."""
        return self._tasks.signature_of(task)


def expect_fitting(
    codec: Codec, definition: Definition, call: Sequence[Any], payload: str | None = None
) -> None:
    """Expect that arguments fit the annotations of an orchestrator.

    Args:
        codec: encodes them.
        definition: the orchestrator.
        call: ``[args, kwargs]``.
        payload: the same, encoded; if it is known.

    Raises:
        PayloadError: one does not fit, or cannot be encoded.
    """
    if types := codec.types_of(definition.function):
        args, kwargs = codec.decode(codec.encode(call) if payload is None else payload)
        types.decoded(args, kwargs)
