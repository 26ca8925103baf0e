"""Schedules as a model."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import EncodedTextField, MomentField, PayloadField
from .project import durable_of_project
from .store_model import StoreModel

__all__ = ["Schedule"]


class Schedule(StoreModel):
    """A schedule; ``schedule.handle`` has its verbs."""

    payloads: tuple[str, ...] = ("input_data", "canvas_data")

    name: models.CharField[str, str] = models.CharField(_("name"), primary_key=True, max_length=100)
    orchestrator: models.CharField[str, str] = models.CharField(_("orchestrator"), max_length=200)
    input_data: PayloadField = PayloadField(db_column="input")
    canvas_data: PayloadField = PayloadField(db_column="canvas", null=True)
    queue: models.CharField[str | None, str | None] = models.CharField(
        _("queue"), max_length=200, null=True
    )
    cron: models.TextField[str | None, str | None] = models.TextField(_("crontab"), null=True)
    every: models.BigIntegerField[int | None, int | None] = models.BigIntegerField(
        _("every (microseconds)"), null=True
    )
    timezone: models.CharField[str, str] = models.CharField(_("time zone"), max_length=100)
    anchor_at: MomentField = MomentField(_("counted from"))
    overlap: models.CharField[str, str] = models.CharField(_("overlap"), max_length=10)
    catch_up: models.BigIntegerField[int, int] = models.BigIntegerField(
        _("catch up (microseconds)")
    )
    jitter: models.BigIntegerField[int, int] = models.BigIntegerField(_("jitter (microseconds)"))
    is_paused: models.BooleanField[bool, bool] = models.BooleanField(_("paused"))
    is_declared: models.BooleanField[bool | None, bool | None] = models.BooleanField(
        _("declared"), null=True
    )
    reason: EncodedTextField = EncodedTextField(_("reason"), null=True)
    next_at: MomentField = MomentField(_("next at"), null=True)
    waiting_at: MomentField = MomentField(_("waiting since"), null=True)
    last_at: MomentField = MomentField(_("last at"), null=True)
    last_id: models.CharField[str | None, str | None] = models.CharField(
        _("last orchestration"), max_length=150, null=True
    )
    skipped: models.BigIntegerField[int, int] = models.BigIntegerField(_("skipped"))
    check_at: MomentField = MomentField(null=True)
    revision: models.BigIntegerField[int, int] = models.BigIntegerField()
    created_at: MomentField = MomentField(_("created at"))
    updated_at: MomentField = MomentField(_("updated at"))

    class Meta(StoreModel.Meta):
        abstract = False
        db_table = "durable_schedules"
        ordering: tuple[str, ...] = ("name",)
        verbose_name: Any = _("schedule")
        verbose_name_plural: Any = _("schedules")
        default_permissions: tuple[str, ...] = ("view", "add", "change")
        permissions: tuple[tuple[str, str], tuple[str, str], tuple[str, str], tuple[str, str]] = (
            ("pause_schedule", "Can pause schedules"),
            ("resume_schedule", "Can resume schedules"),
            ("trigger_schedule", "Can start orchestrations of schedules now"),
            ("delete_schedule", "Can delete schedules"),
        )

    def __str__(self) -> str:
        return str(self.name)

    @property
    def handle(self) -> Any:
        """The handle of ``durable.get_schedule(name)``."""
        return durable_of_project().get_schedule(self.name)

    @property
    def input(self) -> dict[str, Any]:
        """The arguments that it starts with: ``{"args": [...], "kwargs": {...}}``."""
        args, kwargs = self._decoded(self.input_data) or ([], {})
        return {"args": args, "kwargs": kwargs}
