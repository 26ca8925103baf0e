"""Limits on ``Durable``: how far they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..handles.aio import twin

if TYPE_CHECKING:
    from ..handles.limit_use import LimitUse
    from ..worker.runtime import Runtime

__all__ = ["Limiting"]


class Limiting:
    """What is limited over all workers."""

    if TYPE_CHECKING:

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    def limits(self) -> list[LimitUse]:
        """Return the limits of activities and orchestrators of which slots are taken or waited
        for, by name and key.

        Raises:
            StoreError: the store cannot be reached.

        Example:
            >>> for use in durable.limits():
            ...     print(use.name, use.key, use.most, use.taken, use.waiting)
        """
        from ..handles.limit_use import list_limits

        return list_limits(self.runtime)

    # -- twins for code that runs on an event loop -------------------------------------------------

    alimits: Final = twin(limits)
