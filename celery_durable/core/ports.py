"""What the core needs of others, and what its parts need of the machine: protocols only."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from .commands import Command
from .loop import ReplayLoop
from .tasks import ReplayTask

__all__ = [
    "UNTYPED",
    "CallTypes",
    "Codec",
    "ExecutionInfo",
    "Host",
    "Kindlike",
    "SignatureTypes",
    "Verdict",
]

#: Whether a failure is the original exception rebuilt; of a group, that for each of its members.
Verdict = bool | list[Any]
K = TypeVar("K")


class SignatureTypes(Protocol):
    """What the annotations of one orchestrator, or one operation, say."""

    @property
    def decodes_result(self) -> bool:
        """Whether they say anything of what it returns."""

    def decoded(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return arguments as they say; raises ``PayloadError``."""

    def result(self, value: Any) -> Any:
        """Return a result as they say; raises ``PayloadError``."""

    def __bool__(self) -> bool:
        """Tell whether they say anything of arguments."""


class Codec(Protocol):
    """How values become text and back; given by the layer above."""

    def encode(self, value: Any, *, is_checked: bool = False) -> str:
        """Encode a value; raises ``PayloadError``.

        What is put around values that were encoded before counts for no limit.
        """

    def decode(self, payload: str) -> Any:
        """Decode a payload; raises ``PayloadError``."""

    def encode_call(
        self, task: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Return arguments of a task encoded, and as it is sent them; raises ``PayloadError``."""

    def types_of(self, function: Callable[..., Any], *, is_static: bool = False) -> SignatureTypes:
        """Return what the annotations of an orchestrator or an operation say.

        Its first parameter is a context or an object, unless it is static.
        """

    def attributes_of(self, cls: type, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a state as the annotations of a class say; raises ``PayloadError``."""

    def as_type(self, value: Any, wanted: Any, what: str) -> Any:
        """Return a decoded value as an annotation says; raises ``PayloadError``."""

    def encode_failure(self, error: BaseException) -> str:
        """Encode an exception; never raises."""

    def describe_error(self, error: BaseException) -> str:
        """Return in a line what is to be seen of an exception without decoding; never raises."""

    def decode_failure(
        self, payload: str, *, may_rebuild: Verdict = True
    ) -> tuple[Exception, Verdict]:
        """Return the exception, and whether it is the original type rebuilt.

        Of a group, for each of its members.
        """


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """What an execution knows of itself."""

    #: Chosen by the user, or made; stays when the instance continues as new.
    instance_id: str
    #: 20 hexadecimal digits; a new one for each execution of the instance.
    execution_id: str
    #: The registered name of the orchestrator.
    name: str
    #: The version of its code; None if it is registered without one.
    version: str | None = None
    #: The instance that started this one as a sub-orchestration; None if there is none.
    parent_id: str | None = None
    #: What was captured at its start, by the names of headers and keys; read-only.
    context: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    #: Those of it that are restored around code, by their keys.
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    #: What is kept of a plain task's options (see ``plain_task``); empty for an orchestrator.
    task: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    #: Restores such values within a block: those of the caller of an entity.
    restored: Callable[[Mapping[str, Any]], AbstractContextManager[Any]] = field(
        default=lambda _: nullcontext(), compare=False
    )


class CallTypes:
    """What annotations say of calls of orchestrators; nothing, in itself."""

    def arguments(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments of this execution as the annotations of its code say; raises
        ``PayloadError``.
        """
        return args, kwargs

    def check_call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise ``PayloadError`` if arguments do not fit an orchestrator, as far as it is known."""

    def check_next(
        self, upgrade: bool | str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Raise ``PayloadError`` if arguments do not fit the next execution, if that has the same
        code.
        """

    def signature_of(self, task: str, /) -> inspect.Signature | None:
        """Return the signature of a task; None where its code is not known."""
        return None


UNTYPED = CallTypes()


class Kindlike(Protocol):
    """What the machine asks of every kind of command when all of them are concerned."""

    def cancel_all(self) -> None:
        """Cancel what is open, as the execution was asked to cancel."""

    def resume(self) -> None:
        """Take up what had suspended the instance."""

    def reissue(self, plan: Any) -> None:
        """Ask again for what is open, after a rewind or a fork."""


class Host(Protocol):
    """The machine, as the kinds of commands and the context see it."""

    info: ExecutionInfo
    codec: Codec
    loop: ReplayLoop
    #: What random numbers are seeded with: the id of this execution, or of the one that it was
    #: forked from.
    seed: str
    #: False exactly when new commands would be recorded.
    is_replaying: bool
    #: Whether history says already what may be asked for now; a rewind does not ask it.
    is_checked: bool
    #: Whether nothing may run that has effects: the turn is a forecast.
    is_dry: bool
    #: How often this execution was rewound or forked.
    renewals: int
    #: Blocks (sagas, locks) that the code is in.
    open_blocks: int
    #: The commands that a saga undoes: a rewind does them again.
    undone: set[int]
    #: How many rows of history it has lived through.
    sequence: int
    #: Tells whether a task is an orchestrator, so that a call of it is a child.
    is_orchestrator: Callable[[str], bool]
    #: What annotations say of calls.
    types: CallTypes
    #: The command that ended it; None while it is live.
    final: Command | None

    @property
    def now(self) -> int:
        """The time of the event being applied, microseconds since the epoch."""

    @property
    def last_number(self) -> int:
        """The number of the command that was asked for last."""

    @property
    def history_length(self) -> int:
        """The number of events so far, notes left out."""

    def of(self, kind: type[K], /) -> K:
        """Return the part of this execution that a class keeps; made at its first use."""

    def parts(self) -> Iterable[Kindlike]:
        """Return all kinds, in the order in which they ask again after a rewind."""

    def next_number(self) -> int:
        """Return the next command number."""

    def skip_numbers(self, upto: int, /) -> None:
        """Pass over the numbers that were used before."""

    def ask(self, command: Command, /) -> None:
        """Ask for a command; it is recorded when the code is idle again."""

    def withdraw(self, number: int, cancellation: Command, /) -> bool:
        """Take a command back; True if it leaves no trace, as it was not recorded yet."""

    def note_failure(self, number: int, error: BaseException, /) -> None:
        """Tell a rewind that a call has failed after all its attempts."""

    def set_status(self, value: Any, *, is_checked: bool = False) -> None:
        """Set the custom status of this turn."""

    @property
    def tag_changes(self) -> dict[str, str | None]:
        """What the code has set of its tags in this turn."""

    def reseed(self, seed: str, /) -> None:
        """Take over the random numbers of another execution, or its own ones after that."""

    def begin(self, args: Sequence[Any], kwargs: Mapping[str, Any], /) -> ReplayTask:
        """Begin to run the orchestrator."""
