"""An activity is an ordinary task, watched: its class's ``__call__`` is wrapped.

That is the one place where an error of ours is handled in every pool. The wrapper asks the store
whether the activity is still wanted, runs it, and has the outcome committed before Celery hears of
it (``attempt``). Messages that are not ours pass through untouched.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app.task import Task as BaseTask
from celery.exceptions import Ignore
from celery.result import allow_join_result

from ..errors import ConfigurationError
from .activity_context import ActivityContext, current, current_attempt, durable_context
from .async_tasks import run_async
from .headers import PART, MessageHeader, message_of, ticket_of
from .modelled import with_fitting_result
from .orchestrator import OrchestratorTask
from .runtime import runtime_of
from .sealing import codec_of, seal, serializer_of

if TYPE_CHECKING:
    from .attempt import Attempt

log: logging.Logger = logging.getLogger("celery_durable.activity")
__all__ = ["ActivityContext", "attempt_of", "durable_context", "wrap_task", "wrap_tasks"]


def attempt_of(function: object) -> Attempt | None:
    """Return the attempt that runs here if its body is this transactional function, and has not
    begun it yet.

    Raises:
        ConfigurationError: the body has been committed already.
    """
    attempt = current_attempt()
    if attempt is None or getattr(attempt.task.run, "durable_transactional", None) is not function:
        return None
    if attempt.settlement.is_done:
        raise ConfigurationError(
            f"activity {attempt.task.name} has been committed: its body can run only once"
        )
    return None if attempt.settlement.is_open else attempt


def wrap_tasks(app: Celery) -> None:
    """Wrap every registered task that is not an orchestrator; safe to call again."""
    for task in list(app._tasks.values()):
        wrap_task(task)


def wrap_task(task: Any) -> None:
    """Wrap a task that is not an orchestrator; safe to call again, and before Celery has made all
    of it.
    """
    cls = type(task)
    if isinstance(task, OrchestratorTask) or "_durable_wrapped" in cls.__dict__:
        return
    cls.__call__ = _wrapped(cls)
    cls.add_to_chord = _adding(cls)
    cls.on_replace = _replacing(cls.on_replace)
    cls.signature_from_request = _sealing(cls.signature_from_request)
    cls._durable_wrapped = True


def _sealing(own: Callable[..., Any]) -> Callable[..., Any]:
    def signature_from_request(self: Any, request: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the signature of a retry: encoded as the message of the attempt was.

        See ``celery.Task.signature_from_request``.
        """
        signature = own(self, request, *args, **kwargs)
        request = self.request if request is None else request
        if ticket_of(request) is not None and not request.is_eager:
            _seal(self.app, signature)
        return signature

    return signature_from_request


def _seal(app: Celery, signature: Any) -> None:
    if codec_of(app) is not None:
        task = app.tasks.get(signature["task"])
        seal(signature["options"], serializer_of(app, task, signature["options"]))


def _adding(cls: Any) -> Callable[..., Any]:
    own = cls.add_to_chord

    def add_to_chord(self: Any, sig: Any, lazy: bool = False) -> Any:
        """Add a signature to the chord that this task is a member of.

        See ``celery.Task.add_to_chord``.
        """
        attempt = current_attempt()
        if attempt is None or attempt.task is not self or self.request.chord:
            return own(self, sig, lazy)
        return attempt.body.add_to_chord(sig, is_lazy=lazy)

    return add_to_chord


def _wrapped(cls: type) -> Callable[..., Any]:
    own = cls.__call__ if cls.__call__ is not BaseTask.__call__ else None  # type: ignore[operator]

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        request = self.request
        if "_durable_autoretry" not in self.__dict__:
            _let_autoretry_wait(self)
        if own is not None:
            body: Callable[..., Any] = lambda *a, **k: own(self, *a, **k)  # noqa: E731
        elif request.called_directly:
            return BaseTask.__call__(self, *args, **kwargs)
        else:
            # BaseTask.__call__ would push a copied context, and lose the children of the body
            body = self.run
        if request.called_directly:
            return body(*args, **kwargs)
        body = _awaited(self, body)
        header, ticket = message_of(request)
        if ticket is None:
            _refuse_turn(request, header)
            return body(*args, **kwargs)
        if getattr(request, "durable_has_begun", False):
            # the body calls its own task, whose request is a copy of this one
            call = body if own is not None else functools.partial(BaseTask.__call__, self)
            return call(*args, **kwargs)
        from .attempt import Attempt  # a worker has it, by its bootstep

        request.durable_has_begun = True
        runtime = runtime_of(self.app)
        body = with_fitting_result(runtime.codec, self, body)
        return Attempt(runtime, self, ticket, header).run(body, args, kwargs)

    return __call__


def _refuse_turn(request: Any, header: MessageHeader | None) -> None:
    """Drop a message of a turn that has come to a plain task: its body is not to run by that.

    Raises:
        Ignore: it is one.
    """
    if header is not None and header.kind != "activity":
        log.error(
            "a message of a turn of %r came to the task %s: dropped", request.id, request.task
        )
        raise Ignore


def _let_autoretry_wait(task: Any) -> None:
    """Let Celery's ``autoretry_for``, which is the last thing that a task is given, see what an
    ``async def`` body raises.
    """
    task._durable_autoretry = True
    own = getattr(task, "_orig_run", None)
    if own is None or not inspect.iscoroutinefunction(own):
        return

    def run(*args: Any, **kwargs: Any) -> Any:
        body = own if task.request.called_directly else _awaited(task, own)
        return body(*args, **kwargs)

    task._orig_run = run


def _awaited(task: Any, body: Callable[..., Any]) -> Callable[..., Any]:
    """Return what runs an ``async def`` body to its end, on the loop of this process."""

    def run(*args: Any, **kwargs: Any) -> Any:
        result = body(*args, **kwargs)
        if not inspect.iscoroutine(result):
            return result
        context = current.get()
        is_unwanted = None if context is None else lambda: context.cancelled
        return run_async(task, result, is_unwanted)

    return run


def _mark_parts(app: Celery, signature: Any) -> None:
    """Let every task of a replacement be sent as a message: none of them is a start of its own."""
    tasks = getattr(signature, "tasks", None) or ()
    for member in [tasks] if isinstance(tasks, dict) else tasks:
        _mark_parts(app, member)
    if isinstance(body := getattr(signature, "body", None), dict):
        _mark_parts(app, body)
    if not tasks:
        _seal(app, signature)
    options = signature.setdefault("options", {})
    options["headers"] = {**(options.get("headers") or {}), PART: True}


def _replacing(own: Callable[..., Any]) -> Callable[..., Any]:
    def on_replace(self: Any, sig: Any) -> Any:
        """Let an eager activity be replaced: Celery gets the result at once, and forbids its tasks
        to get results.
        """
        if ticket_of(self.request) is None:
            return own(self, sig)
        _mark_parts(self.app, sig)
        if not self.request.is_eager:
            return own(self, sig)
        with allow_join_result():
            return own(self, sig)

    return on_replace
