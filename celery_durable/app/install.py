"""Hooks into a Celery app: its backend, its workers, its logs, the embedded broker, Flower."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from celery import Celery, signals
from kombu.transport import TRANSPORT_ALIASES

from ..errors import ConfigurationError
from ..settings import Settings
from ..telemetry.logs import install as add_log_fields
from ..worker.activity import wrap_task
from ..worker.backend import make_backend
from ..worker.durable_tasks import watch_registry
from ..worker.no_beat import refuse_beat
from ..worker.request import hold_messages_of
from ..worker.sealing import accept_sealed, register_serializers
from ..worker.task_limits import watch_declarations

__all__ = ["FIXUP", "install"]

TRANSPORT_ALIASES.setdefault("durable", "celery_durable.broker.transport:Transport")
#: Celery calls it for each copy of an app; the name travels with the app.
FIXUP = "celery_durable.app:install_again"

#: By their names: only a worker imports them.
_RECOVERY = "celery_durable.worker.bootstep:RecoveryStep"
_KEEP_CLIENT = "celery_durable.worker.redis_clients:KeepClientStep"


def install(app: Celery, watch_tasks: Callable[..., None]) -> None:
    """Install into an app that has its ``app.durable`` already.

    Args:
        app: the app.
        watch_tasks: is called when the app is finalized, or now if it is already.
    """
    register_serializers()
    watch_registry(app, _complete)
    refuse_beat(app)
    app.fixups = {*app.fixups, FIXUP}
    # nothing of it is pickled, and the app keeps the class that it names
    app._get_backend = partial(make_backend, app)
    app._backend_cache = None
    app._local.__dict__.pop("backend", None)
    app.on_after_configure.connect(partial(_place_embedded_broker, app), weak=False)
    app.on_after_configure.connect(partial(_accept_sealed, app), weak=False)
    if app.configured:
        accept_sealed(app)
    app.on_after_finalize.connect(watch_tasks, weak=False)
    if app.finalized:
        watch_tasks(app)
    app.steps["worker"].add(_RECOVERY)
    app.steps["consumer"].add(_KEEP_CLIENT)
    watch_declarations(app)
    _watch_flower()
    signals.import_modules.connect(_watch_flower, sender=app)
    for configured in (signals.after_setup_logger, signals.after_setup_task_logger):
        configured.connect(_add_log_fields, weak=False, dispatch_uid="celery_durable.logs")


def _complete(task: Any) -> None:
    """Let a task that comes late be an activity as those that were there in time."""
    wrap_task(task)
    hold_messages_of(task)


def _place_embedded_broker(app: Celery, **_: Any) -> None:
    """Put the embedded broker's file beside the SQLite store, unless its URL or options name
    one.
    """
    conf = app.conf
    url = str(conf.get("broker_url") or "")
    options = dict(conf.get("broker_transport_options") or {})
    if (
        url.startswith("durable:")
        and not url.partition("://")[2].strip("/")
        and "path" not in options
    ):
        database = _sqlite_path(conf.get("durable_backend_url", Settings.backend_url))
        if database is not None:
            conf.broker_transport_options = {
                **options,
                "path": f"{os.path.splitext(database)[0]}-broker.db",
            }


def _accept_sealed(app: Celery, **_: Any) -> None:
    """Let workers take encoded messages, also one that cannot read them: that says so, and leaves
    them to another.
    """
    accept_sealed(app)


def _watch_flower(**_: Any) -> None:
    """Give Flower the tab Orchestrations, in a process that has loaded Flower.

    In all others this does nothing.
    """
    if "flower.app" in sys.modules:
        import_module("celery_durable.contrib.flower").attach()


def _add_log_fields(logger: Any = None, **_: Any) -> None:
    """Let the records of a logger that Celery has set up say which orchestration they belong to."""
    add_log_fields(logger)


def _sqlite_path(url: str) -> str | None:
    from ..store.addresses import address_of

    try:
        parsed = address_of(url).url
    except ConfigurationError:
        return None  # the store says so itself, when it is used
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (
        None,
        "",
        ":memory:",
    )
    return parsed.database if is_file else None
