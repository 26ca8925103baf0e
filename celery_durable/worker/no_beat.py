"""Where workers run ``beat_schedule`` themselves (``durable_beat``), nothing else does."""

from __future__ import annotations

from typing import Any

from celery import Celery

from ..errors import ConfigurationError

__all__ = ["refuse_beat", "refuse_where_workers_tick"]


def refuse_beat(app: Celery) -> None:
    """Let ``celery beat`` refuse to start where workers run ``beat_schedule`` themselves: each tick
    would come twice.
    """
    if "Beat" in app.__dict__ and hasattr(app.__dict__["Beat"], "durable_own"):
        return
    own = app.__dict__.get("Beat")

    def beat(*args: Any, **options: Any) -> Any:
        """Make the service of ``celery beat``, unless ``durable_beat`` is on."""
        refuse_where_workers_tick(app)
        made = app.subclass_with_self("celery.apps.beat:Beat") if own is None else own
        return made(*args, **options)

    beat.durable_own = own  # type: ignore[attr-defined]
    app.__dict__["Beat"] = beat


def refuse_where_workers_tick(app: Celery) -> None:
    """Raise if workers run ``beat_schedule`` themselves.

    Raises:
        ConfigurationError: they do.
    """
    if app.conf.get("durable_beat"):
        raise ConfigurationError(
            "durable_beat is on: workers run what beat_schedule declares, and with a beat beside"
            " them each tick would come twice. Start no celery beat and no worker -B, or take"
            " durable_beat out"
        )
