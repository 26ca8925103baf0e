"""Any Celery canvas as an orchestration: crash-proof, pausable, visible.

One built-in orchestrator, registered with every app, takes the serialised signature and calls it.
Only its leaves travel as messages; what comes next is decided from history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ..core.canvas import first_of, members_in, with_first, with_options
from ..core.options import REFUSED_BY_ACTIVITIES, REFUSED_BY_STARTS, refuse
from ..core.plain_task import raise_if_ignored
from ..errors import ActivityError
from .aio import twin

if TYPE_CHECKING:
    from ..engine.start import IfExists
    from .orchestration import Orchestration

__all__ = ["ORCHESTRATOR", "DurableCanvas", "run_canvas"]

ORCHESTRATOR = "celery_durable.canvas"


async def run_canvas(ctx: Any, signature: Mapping[str, Any]) -> Any:
    """Run a canvas and return its result, as ``.get()`` of the canvas would.

    It ends as canceled if a member said by ``Ignore`` to stop here.
    """
    try:
        return await ctx.call(signature)
    except ActivityError as error:
        raise_if_ignored(error)
        raise


class DurableCanvas:
    """A canvas to be run by the engine; see ``Durable.canvas``.

    It can be started any number of times.
    """

    def __init__(self, durable: Any, signature: Mapping[str, Any]) -> None:
        if not isinstance(signature, Mapping) or "task" not in signature:
            raise TypeError(
                "durable.canvas() takes a signature such as chain(a.s(1), b.s()), not"
                f" {type(signature).__name__}"
            )
        self._durable = durable
        self._signature = signature

    def delay(self, *args: Any, **kwargs: Any) -> Orchestration:
        """Start it; the arguments are those of ``apply_async``."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        *,
        instance_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        expires: float | datetime | None = None,
        **options: Any,
    ) -> Orchestration:
        """Start it as Celery does, and return its handle, whose result is the canvas's.

        Args:
            args: come before the own arguments of its first tasks, as in
                ``chain(...).apply_async(args)``.
            kwargs: override the own keyword arguments of its first tasks.
            task_id, instance_id: the id of the orchestration; else the ``task_id`` set on the
                canvas, or a random one.
            tags: strings to find it by.
            expires: seconds, or an aware ``datetime``, within which a worker must have begun its
                first tasks.
            **options: those of ``apply_async``, for the whole: ``countdown``, ``eta``, ``link``,
                ``link_error``, and ``queue``, ``priority``, ... of the orchestration's own
                messages. Without ``queue`` and a route of ``celery_durable.canvas`` they go where
                its first task goes.

        Raises:
            ValueError: ``task_id`` and ``instance_id`` are not the same.
            TypeError: a member has an option that has no meaning for one, such as a ``task_id``.
            PayloadError: an argument cannot be encoded.
            StoreError: the store cannot be reached; nothing was started.
        """
        if instance_id is not None and task_id not in (None, instance_id):
            raise ValueError(
                f"task_id={task_id!r} and instance_id={instance_id!r} are one thing: give one of"
                " them"
            )
        canvas = self._with(
            args or (), kwargs or {}, {} if expires is None else {"expires": expires}
        )
        chosen = instance_id or task_id or self._own_id
        options = {**self._route(options), **options}
        if tags is not None:
            return self._start(self._task.s(canvas).set(**options), instance_id=chosen, tags=tags)
        started: Orchestration = self._task.apply_async((canvas,), task_id=chosen, **options)
        return started

    def start(
        self,
        *args: Any,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        if_exists: IfExists = "return",
        session: Any = None,
    ) -> Orchestration:
        """Start it as ``durable.start`` does, with its options.

        ``args`` come before those of its first tasks.
        """
        signature = self._task.s(self._with(args, {}, {})).set(**self._route({}))
        return self._start(
            signature,
            instance_id=instance_id or self._own_id,
            start_at=start_at,
            tags=tags,
            if_exists=if_exists,
            session=session,
        )

    def _start(self, signature: Any, **options: Any) -> Orchestration:
        started: Orchestration = self._durable.start(signature, **options)
        return started

    def _route(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the queue of the first task, if the canvas has no queue of its own: that one is
        consumed.
        """
        if any(options.get(name) for name in ("queue", "routing_key", "exchange")):
            return {}
        publisher, first = self._durable.runtime.publisher, first_of(self._signature)
        if first is None or not publisher.knows_task(str(first["task"])):
            return {}
        own, queue = (
            publisher.route(ORCHESTRATOR, {}),
            publisher.route(str(first["task"]), first.get("options") or {}),
        )
        is_default = own == self._durable.app.amqp.default_queue.name
        return {"queue": queue} if queue is not None and queue != own and is_default else {}

    @property
    def _task(self) -> Any:
        return self._durable.app.tasks[ORCHESTRATOR]

    @property
    def _own_id(self) -> str | None:
        return (self._signature.get("options") or {}).get("task_id")

    # -- twins for code that runs on an event loop -------------------------------------------------

    aapply_async: Final = twin(apply_async)
    astart: Final = twin(start)

    def _with(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        whole = dict(with_options(with_first(self._signature, tuple(args), kwargs), options))
        whole["options"] = {
            name: value for name, value in whole["options"].items() if name != "task_id"
        }
        for member in members_in(whole):
            self._check(str(member["task"]), member.get("options") or {})
        return whole

    def _check(self, name: str, options: Mapping[str, Any]) -> None:
        """Refuse what the run would when it comes to a member, as far as its code is here."""
        if name in self._durable.registry:
            refuse(options, REFUSED_BY_STARTS, f"sub-orchestration {name}")
        elif name in ("group", "chord", "chain") or name in self._durable.app.tasks:
            refuse(options, REFUSED_BY_ACTIVITIES, f"member {name} of a canvas")
