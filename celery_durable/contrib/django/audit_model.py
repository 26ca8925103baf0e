"""The audit trail as a model: who did what."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import EncodedTextField, MomentField
from .store_model import StoreModel

__all__ = ["AuditEntry"]


class AuditEntry(StoreModel):
    """One entry of the audit trail; ``durable.audit()`` reads the same."""

    id: models.CharField[str, str] = models.CharField(primary_key=True, max_length=32)
    at: MomentField = MomentField(_("at"))
    kind: models.CharField[str, str] = models.CharField(_("kind"), max_length=20)
    target: models.CharField[str | None, str | None] = models.CharField(
        _("target"), max_length=200, null=True
    )
    verb: models.CharField[str, str] = models.CharField(_("verb"), max_length=20)
    actor: models.CharField[str | None, str | None] = models.CharField(
        _("actor"), max_length=200, null=True
    )
    door: models.CharField[str, str] = models.CharField(_("door"), max_length=10)
    reason: EncodedTextField = EncodedTextField(_("reason"), null=True)
    arguments: EncodedTextField = EncodedTextField(_("arguments"), null=True)
    effect: models.CharField[str, str] = models.CharField(_("effect"), max_length=10)
    error: EncodedTextField = EncodedTextField(_("error"), null=True)
    made: models.CharField[str | None, str | None] = models.CharField(
        _("made"), max_length=150, null=True
    )

    class Meta(StoreModel.Meta):
        abstract: bool = False
        db_table: str = "durable_audit"
        ordering: tuple[str, ...] = ("-at", "-id")
        verbose_name: Any = _("audit entry")
        verbose_name_plural: Any = _("audit")

    def __str__(self) -> str:
        return f"{self.actor or self.door}: {self.verb} {self.target or ''}".rstrip()
