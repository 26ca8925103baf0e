"""The Django application: what is set up when Django starts."""

from __future__ import annotations

from typing import Any

from celery.signals import celeryd_init
from django.apps import AppConfig
from django.conf import settings
from django.db import connections
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _

__all__ = ["CeleryDurableConfig"]


class CeleryDurableConfig(AppConfig):
    """``INSTALLED_APPS += ["celery_durable.contrib.django"]``."""

    name = "celery_durable.contrib.django"
    label = "celery_durable"
    verbose_name: Any = _("durable orchestrations")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let starts, events and signals join ``atomic()``; check the settings.

        Look after SQLite.
        """
        from ...app.session import watch_transactions
        from .checks import register_checks
        from .transactions import open_block

        register_checks()

        watch_transactions(open_block)
        celeryd_init.connect(_offer_tasks)
        post_migrate.connect(_use_write_ahead_log, sender=self)


def _offer_tasks(**_: Any) -> None:
    """Let a worker run the tasks of Django's own framework, if a backend of ours is configured."""
    backends = getattr(settings, "TASKS", None) or {}
    if any(
        str(each.get("BACKEND", "")).startswith(f"{__package__}.tasks.")
        for each in backends.values()
    ):
        from .task_running import offer_all
        from .tasks import DurableBackend

        offer_all(DurableBackend)


def _use_write_ahead_log(*, using: str, **_: Any) -> None:
    """Let an SQLite file have readers beside its writer, as the store needs it.

    That cannot be switched on under a lock.
    """
    connection = connections[using]
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
