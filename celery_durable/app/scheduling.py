"""Schedules on ``Durable``."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final

from ..handles.aio import twin

if TYPE_CHECKING:
    from celery import Celery
    from celery.schedules import crontab

    from ..core.retry import Interval
    from ..engine.due import Overlap
    from ..handles.schedule import Schedule
    from ..worker.runtime import Runtime

__all__ = ["Scheduling"]


class Scheduling:
    """Declares and finds schedules."""

    if TYPE_CHECKING:

        @property
        def app(self) -> Celery:
            """The Celery app."""

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    def schedule(
        self,
        name: str,
        signature: Any,
        *,
        cron: str | crontab | None = None,
        interval: Interval | None = None,
        tz: str | tzinfo | None = None,
        overlap: Overlap = "skip",
        catch_up: Interval = 60,
        jitter: Interval = 0,
    ) -> Schedule:
        """Start an orchestration, or any task durably, again and again, from now on.

        Written to the store at once, as ``start`` is.

        Declared again with the same definition, nothing changes; with another one, that holds from
        now on.

        Args:
            name: 1 to 100 characters. The instance of a tick is ``<name>@<nominal time, UTC>``.
            signature: of an orchestrator or a task, such as ``report.s("daily")``; its options
                (queue, link, ...) are honoured. ``expires`` in seconds counts from each start.
            cron: a crontab line of five fields, or Celery's ``crontab``.
            interval: seconds or ``timedelta``, instead: the ticks are its multiples, counted from
                now.
            tz: the time zone of ``cron``, such as "Europe/Berlin"; the app's ``timezone`` if left
                out.
            overlap: what becomes of a tick while the instance before it runs: "skip" it, "buffer"
                one until that ends, "cancel" that one, or "allow" both.
            catch_up: how old a tick may be, in seconds or as ``timedelta``, that no worker was
                there for, to run still.
            jitter: each start is delayed by up to so many seconds, always alike for the same tick.

        Raises:
            ValueError: the definition cannot be used; nothing was changed.
            TypeError: ``signature`` is not of a task, its arguments do not fit, or an option is of
                another type.
            PayloadError: an argument cannot be encoded.
            StoreError: the store cannot be reached.

        Example:
            >>> durable.schedule("daily", fulfil.s("42"), cron="0 6 * * *", tz="Europe/Berlin")
        """
        from ..handles.declare_schedule import declare_schedule
        from .signatures import repeated

        request = repeated(self.runtime, signature, "durable.schedule()")
        return declare_schedule(
            self.app,
            name,
            request,
            cron=cron,
            interval=interval,
            tz=tz,
            overlap=overlap,
            catch_up=catch_up,
            jitter=jitter,
        )

    def schedules(self) -> list[Schedule]:
        """Return all schedules, by name.

        Example:
            >>> for each in durable.schedules():
            ...     print(each.name, each.next_at)
        """
        from ..handles.schedule import list_schedules

        return list_schedules(self.app)

    def get_schedule(self, name: str) -> Schedule:
        """Return the handle of a schedule.

        Raises:
            ScheduleNotFound: there is none; a ``LookupError``.

        Example:
            >>> durable.get_schedule("nightly").pause(reason="stocktaking")
        """
        from ..handles.schedule import find_schedule

        return find_schedule(self.app, name)

    # -- twins for code that runs on an event loop -------------------------------------------------

    aschedule: Final = twin(schedule)
    aschedules: Final = twin(schedules)
    aget_schedule: Final = twin(get_schedule)
