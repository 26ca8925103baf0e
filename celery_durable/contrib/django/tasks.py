"""A backend of Django's Tasks framework (Django 6.0 or later): each task that is enqueued is a
durable start.

``TASKS = {"default": {"BACKEND": "celery_durable.contrib.django.tasks.DurableBackend"}}``

Celery imports this module wherever it looks for tasks, with every Django: so the framework is
imported when the backend is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from .task_backend import DurableBackend, DurableTask

__all__ = ["DurableBackend", "DurableTask"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if django.VERSION < (6, 0):
        raise ImportError(
            f"{__name__}.{name} needs Django 6.0 or later, which has django.tasks; this is Django"
            f" {django.get_version()}"
        )
    from . import task_backend

    return getattr(task_backend, name)
