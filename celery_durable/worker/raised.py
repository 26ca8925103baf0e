"""What is told of what a body raised, where that is not the exception itself."""

from __future__ import annotations

from celery.exceptions import Reject

from ..errors import ActivityError

__all__ = ["as_exception", "as_failure"]


def as_failure(request: BaseException) -> ActivityError:
    """Return what an orchestrator sees of an activity that raised Ignore or Reject, with what that
    was given as its reason.
    """
    name, why = "ignored", str(request)
    if isinstance(request, Reject):
        name, why = "rejected", request.reason
    text = f"{name}: {why}" if why else name
    return ActivityError(text, type=f"celery.exceptions.{type(request).__name__}", message=text)


def as_exception(error: BaseException) -> ActivityError:
    """Return what Celery is told of what is no ``Exception``: its pools of threads and greenlets
    would never hear of it.
    """
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    heard = ActivityError(f"{name}: {error}", type=name, message=str(error))
    heard.__cause__ = error
    return heard
