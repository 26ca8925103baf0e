"""What the engine asks about Celery's tasks whose code this process has."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Protocol

from ..core.pause_after import PauseAfter
from ..core.permits import TaskLimit

__all__ = ["NoTasks", "Tasks"]


class Tasks(Protocol):
    """The tasks of this process, by name."""

    def signature_of(self, name: str) -> inspect.Signature | None:
        """Return the signature of a task's body; None where its code is not known."""

    def limits_of(self, name: str) -> tuple[TaskLimit, ...] | None:
        """Return the limits that a task declares; None where its code is not known."""

    def pause_after_of(self, name: str) -> PauseAfter | None:
        """Return after which failures a task is paused by itself; None is never, or its code is not
        known.

        Raises:
            ConfigurationError: what it declares cannot be used.
        """

    def priority_of(self, name: str) -> int | None:
        """Return the priority that a task declares; None is none, or its code is not known."""

    def all_limits(self) -> Mapping[str, tuple[TaskLimit, ...]]:
        """Return the limits of all tasks that declare any."""


class NoTasks:
    """A process without the code of any task."""

    def signature_of(self, name: str) -> inspect.Signature | None:
        """Return None."""
        return None

    def limits_of(self, name: str) -> tuple[TaskLimit, ...] | None:
        """Return None."""
        return None

    def pause_after_of(self, name: str) -> PauseAfter | None:
        """Return None."""
        return None

    def priority_of(self, name: str) -> int | None:
        """Return None."""
        return None

    def all_limits(self) -> Mapping[str, tuple[TaskLimit, ...]]:
        """Return nothing."""
        return {}
