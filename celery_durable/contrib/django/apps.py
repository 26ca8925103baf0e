"""The Django application: what is set up when Django starts."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _

__all__ = ["CeleryDurableConfig"]


class CeleryDurableConfig(AppConfig):
    """``INSTALLED_APPS += ["celery_durable.contrib.django"]``."""

    name = "celery_durable.contrib.django"
    label = "celery_durable"
    verbose_name = _("durable orchestrations")
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
        post_migrate.connect(_use_write_ahead_log, sender=self)


def _use_write_ahead_log(*, using: str, **_: Any) -> None:
    """Let an SQLite file have readers beside its writer, as the store needs it.

    That cannot be switched on under a lock.
    """
    connection = connections[using]
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
