"""Whether the code of this process fits the histories, and what its contracts are: the part of
``Durable`` for deployments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ..core.flags import check_flags
from ..handles.aio import twin

if TYPE_CHECKING:
    from celery import Celery

    from ..conversion import Converters
    from ..engine.debugger import Debugger
    from ..engine.listing import VersionUse
    from ..engine.registry import Registry
    from ..engine.verify import Verification, Verifier
    from ..worker.runtime import Runtime

__all__ = ["CodeChecks"]


class CodeChecks:
    """Replays histories, and lists versions that are in use."""

    if TYPE_CHECKING:
        converters: Converters

        @property
        def app(self) -> Celery:
            """The Celery app."""

        @property
        def registry(self) -> Registry:
            """The orchestrators that this process knows."""

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    def replay(
        self, history: str | bytes | Mapping[str, Any], *, check_arguments: bool = False
    ) -> int:
        """Replay a history that ``run.export_history()`` gave on the code of this process.

        Return the number of its events.

        Args:
            history: the JSON document.
            check_arguments: whether other arguments of a call than the recorded ones are a
                disagreement too.

        Raises:
            NonDeterminismError: the code asks for something else than history holds; the text says
                what and where.
            PayloadError: the document is damaged.
            DurableError: no orchestrator of that name and version is registered here.

        Example:
            >>> durable.replay(Path("tests/histories/order-42.json").read_text())
        """
        check_flags(check_arguments=check_arguments)
        return self._verifier.replay(history, checks_arguments=check_arguments)

    def verify(
        self,
        histories: Iterable[str | bytes | Mapping[str, Any]] | None = None,
        *,
        live: bool = False,
        check_arguments: bool = False,
        **filters: Any,
    ) -> Verification:
        """Replay histories on the code of this process, and list those that it cannot follow.

        Nothing is changed.

        Args:
            histories: documents that ``run.export_history()`` gave.
            live: look at every orchestration in the store that is not over: the gate of a
                deployment.
            check_arguments: see ``replay``.
            **filters: with ``live``, those of ``find`` but ``status``.

        Raises:
            TypeError: there are neither histories nor ``live=True``, or both, or an unknown filter.

        Example:
            >>> durable.verify(live=True).raise_for_problems()
        """
        check_flags(live=live, check_arguments=check_arguments)
        from ..core.status import RuntimeStatus
        from .filters import filters_of

        if not live:
            if filters:
                raise TypeError("filters choose among live orchestrations: pass live=True")
            if histories is None:
                raise TypeError(
                    "verify() looks at nothing: pass histories, or live=True for all that are not"
                    " over"
                )
            return self._verifier.verify_documents(histories, checks_arguments=check_arguments)
        if histories:
            raise TypeError("verify() takes histories, or live=True, not both")
        chosen = filters_of(
            {"status": [status for status in RuntimeStatus if not status.is_terminal], **filters}
        )
        return self._verifier.verify_live(chosen, checks_arguments=check_arguments)

    def debugger(
        self,
        instance_id: str | None = None,
        *,
        history: str | bytes | Mapping[str, Any] | None = None,
        name: str | None = None,
        version: str | None = None,
    ) -> Debugger:
        """Return a replay that stops after any event of a history, and shows the frames of the code
        and their local variables there.

        It begins before the first event. Nothing is written, sent or run, neither activities nor
        functions under ``ctx.run``; the history is kept as it was read.

        Args:
            instance_id: of the orchestration.
            history: a document that ``run.export_history()`` gave, instead of the id.
            name: with ``history``, replay on the code of this orchestrator; its own if left out.
            version: replay on the code of this version; its own if left out.

        Raises:
            InstanceNotFound: there is no such orchestration.
            InvalidState: it is an entity, a plain task or a canvas.
            ConfigurationError: this process does not have its code.
            PayloadError: its history or the document is damaged.
            TypeError: not exactly one of ``instance_id`` and ``history`` is given.

        Example:
            >>> with durable.debugger("order-1") as debugger:
            ...     debugger.goto(2)
            ...     for frame in debugger.frames:
            ...         print(frame.function, frame.line, dict(frame.locals))
        """
        from ..engine.debugging import debug_document, debug_instance

        if (instance_id is None) == (history is None):
            raise TypeError("debugger() takes the id of an orchestration, or history=")
        if history is not None:
            return debug_document(self.runtime.runner, history, name, version)
        if name is not None:
            raise TypeError("name= chooses the code for an exported history: pass history=")
        return debug_instance(self.runtime.client, str(instance_id), version)

    def versions(self) -> list[VersionUse]:
        """Return every name and version that is declared here or needed by an orchestration that is
        not over.

        ``.live`` is how many need it, ``.is_registered`` whether this process has it,
        ``.is_safe_to_remove`` that none needs it.

        Example:
            >>> for each in durable.versions():
            ...     print(each.name, each.version, each.live, each.is_safe_to_remove)
        """
        return self._verifier.versions()

    aversions: Final = twin(versions)

    def schema(self, name: str | None = None) -> dict[str, Any]:
        """Return what orchestrators and tasks take, give and wait for, as JSON Schema 2020-12.

        With a name, the contract of that orchestrator or task; without one ``{"format": 1,
        "orchestrators": {name: contract}, "tasks": {name: contract}}``, where tasks are those with
        annotations, and durable ones. It asks neither the store nor a worker.

        A contract has ``input`` (an object of the arguments by their names; ``by_position`` lists
        those that may be given by position, in order) and ``result``; that of an orchestrator also
        ``version`` (the newest; others are under ``versions``), ``events`` and ``requests`` (a
        schema for each name that is waited for), ``queries`` (names), and ``unknown``: waits whose
        name or type is not known before the code runs. Each schema stands by itself.

        Described is what is written: a ``timedelta`` is a number of seconds (within a model of
        pydantic a text), a ``Path`` is text, a named tuple a list, a dataclass an object; what has
        a converter may be anything, as what has no annotation.

        Args:
            name: of an orchestrator or a task.

        Raises:
            ValueError: this process has none of that name.
            ConfigurationError: pydantic is missing, or older than 2.7.

        Example:
            >>> contract = durable.schema(fulfil.name)
            >>> contract["input"]["required"]
            ['order']
        """
        from ..inspection.contracts import Declared, contract_of, contracts

        self.app.finalize()
        declared = Declared(self.app, self.registry, self.converters)
        return contracts(declared) if name is None else contract_of(declared, name)

    @property
    def _verifier(self) -> Verifier:
        runtime = self.runtime
        from ..engine.verify import Verifier

        return Verifier(runtime.store, runtime.registry, runtime.runner)
