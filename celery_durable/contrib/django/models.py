"""The store's tables as read-only Django models: for the admin, permissions, and queries of a
project's own.

They are unmanaged: ``celery_durable.store`` declares the tables. Nothing is written through them;
``durable.start()`` and the verbs of ``instance.run`` do that. They read the database that the store
lives in, whatever its alias.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from ...core.entity import ORCHESTRATORS
from ...core.names import parts_of_id
from ...core.status import RuntimeStatus
from ...engine.verbs import VERBS
from ...store.values import tags_of, text_of
from .audit_model import AuditEntry
from .fields import EncodedTextField, MomentField, PayloadField
from .project import app_of_project, durable_of_project
from .querysets import ReadOnlyQuerySet
from .schedule_model import Schedule
from .store_model import StoreManager, StoreModel

__all__ = [
    "PERMISSIONS",
    "AuditEntry",
    "Entity",
    "History",
    "InboxMessage",
    "Instance",
    "OutboxMessage",
    "ReadOnlyQuerySet",
    "Schedule",
    "Worker",
]

#: Each verb has a permission of its own: ``celery_durable.suspend_instance`` and so on. Migrations
#: hold them in this order, in which what deletes is last.
PERMISSIONS = (
    ("view_payload", "Can view inputs, outputs and other payloads"),
    ("start_instance", "Can start orchestrations"),
    *(
        (verb.permission, verb.permission_text)
        for verb in sorted(VERBS.values(), key=lambda verb: verb.deletes)
    ),
)


class _InstanceManager(StoreManager.from_queryset(ReadOnlyQuerySet)):  # type: ignore[misc]
    def orchestrations(self) -> Any:
        """Return instances that are no entities."""
        return self.exclude(name__startswith=ORCHESTRATORS)

    def entities(self) -> Any:
        """Return instances that are entities."""
        return self.filter(name__startswith=ORCHESTRATORS)


class Instance(StoreModel):
    """One orchestration or entity."""

    Status: Any = models.TextChoices(
        "Status", [(str(status), str(status)) for status in RuntimeStatus]
    )
    payloads: tuple[str, ...] = (
        "input_data",
        "output_data",
        "failure_data",
        "custom_status_data",
        "canvas_data",
    )

    id: models.CharField[str, str] = models.CharField(_("id"), primary_key=True, max_length=150)
    execution: models.CharField[str, str] = models.CharField(_("execution"), max_length=32)
    name: models.CharField[str, str] = models.CharField(_("orchestrator"), max_length=200)
    version: models.CharField[str | None, str | None] = models.CharField(
        _("version"), max_length=50, null=True
    )
    status: models.CharField[str, str] = models.CharField(
        _("status"), max_length=12, choices=Status.choices
    )
    reason: EncodedTextField = EncodedTextField(_("reason"), null=True)
    sequence: models.IntegerField[int, int] = models.IntegerField(_("turns"))
    input_data: PayloadField = PayloadField(db_column="input", null=True)
    output_data: PayloadField = PayloadField(db_column="output", null=True)
    failure_data: PayloadField = PayloadField(db_column="failure", null=True)
    custom_status_data: PayloadField = PayloadField(db_column="custom_status", null=True)
    parent: models.ForeignKey[Any, Any] = models.ForeignKey(
        "self",
        models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="children",
        verbose_name=_("parent"),
    )
    parent_execution: models.CharField[str | None, str | None] = models.CharField(
        max_length=32, null=True
    )
    parent_command: models.IntegerField[int | None, int | None] = models.IntegerField(null=True)
    parent_attempt: models.IntegerField[int | None, int | None] = models.IntegerField(null=True)
    root_id: models.CharField[str | None, str | None] = models.CharField(
        _("root id"), max_length=200, null=True
    )
    tags_text: models.TextField[str | None, str | None] = models.TextField(
        db_column="tags", null=True
    )
    canvas_data: PayloadField = PayloadField(db_column="canvas", null=True)
    queue: models.CharField[str | None, str | None] = models.CharField(
        _("queue"), max_length=200, null=True
    )
    crashes: models.IntegerField[int, int] = models.IntegerField(_("crashes"))
    created_at: MomentField = MomentField(_("created at"))
    started_at: MomentField = MomentField(_("started at"), null=True)
    updated_at: MomentField = MomentField(_("updated at"))
    completed_at: MomentField = MomentField(_("completed at"), null=True)
    policy: models.TextField[str | None, str | None] = models.TextField(null=True)
    purge_at: MomentField = MomentField(_("purge at"), null=True)
    is_lasting: models.BooleanField[bool | None, bool | None] = models.BooleanField(null=True)
    listed_as: models.CharField[str | None, str | None] = models.CharField(max_length=12, null=True)

    objects: _InstanceManager = _InstanceManager()

    class Meta(StoreModel.Meta):
        abstract = False
        db_table = "durable_instances"
        ordering: tuple[str, ...] = ("-created_at", "-id")
        verbose_name: Any = _("orchestration")
        verbose_name_plural: Any = _("orchestrations")
        permissions = PERMISSIONS

    def __str__(self) -> str:
        return str(self.id)

    @property
    def run(self) -> Any:
        """The handle (``Orchestration``), with all verbs."""
        from ...handles.orchestration import Orchestration

        return Orchestration(self.id, app=app_of_project())

    @property
    def runtime_status(self) -> RuntimeStatus:
        """The status as an enumeration."""
        return RuntimeStatus(self.status)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.runtime_status.is_terminal

    @property
    def is_entity(self) -> bool:
        """Whether it is an entity."""
        return str(self.name).startswith(ORCHESTRATORS)

    @property
    def entity(self) -> tuple[str, str] | None:
        """The name and key of an entity; None of an orchestration."""
        return parts_of_id(self.id) if self.is_entity else None

    @property
    def tags(self) -> dict[str, str]:
        """The tags that it was started with."""
        return tags_of(self.tags_text or "")

    @property
    def input(self) -> dict[str, Any]:
        """The arguments of the current execution: ``{"args": [...], "kwargs": {...}}``."""
        args, kwargs = self._decoded(self.input_data) or ([], {})
        return {"args": args, "kwargs": kwargs}

    @property
    def output(self) -> Any:
        """What the orchestrator returned; None before that."""
        return self._decoded(self.output_data)

    @property
    def failure(self) -> BaseException | None:
        """The exception that the orchestrator raised; None otherwise."""
        if self.failure_data is None:
            return None
        codec = durable_of_project().runtime.codec
        error: BaseException = codec.decode_failure(text_of(self.failure_data) or "")[0]
        return error

    @property
    def custom_status(self) -> Any:
        """What ``ctx.set_status`` last said."""
        return self._decoded(self.custom_status_data)


class Entity(Instance):
    """An instance that is an entity, for a permission and pages of its own.

    ``Instance.objects.entities()`` finds them.
    """

    class Meta(StoreModel.Meta):
        abstract = False
        proxy = True
        verbose_name: Any = _("entity")
        verbose_name_plural: Any = _("entities")


class History(StoreModel):
    """The events of one turn, as they are stored; ``instance.run.history()`` reads them."""

    payloads: tuple[str, ...] = ("events_data",)

    pk: models.CompositePrimaryKey = models.CompositePrimaryKey(
        "instance_id", "execution", "sequence"
    )
    instance: models.ForeignKey[Any, Any] = models.ForeignKey(
        Instance,
        models.DO_NOTHING,
        db_column="instance",
        db_constraint=False,
        related_name="history",
    )
    execution: models.CharField[str, str] = models.CharField(max_length=32)
    sequence: models.IntegerField[int, int] = models.IntegerField()
    events_data: PayloadField = PayloadField(db_column="events")

    class Meta(StoreModel.Meta):
        abstract = False
        db_table = "durable_history"
        verbose_name: Any = _("history")
        verbose_name_plural: Any = _("histories")


class InboxMessage(StoreModel):
    """What an instance has not taken yet: outcomes, events, timers, requests."""

    payloads: tuple[str, ...] = ("payload_data",)

    id: models.BigAutoField[int, int] = models.BigAutoField(primary_key=True)
    instance: models.ForeignKey[Any, Any] = models.ForeignKey(
        Instance, models.DO_NOTHING, db_column="instance", db_constraint=False, related_name="inbox"
    )
    dedup: models.CharField[str, str] = models.CharField(max_length=120)
    kind: models.CharField[str, str] = models.CharField(_("kind"), max_length=30)
    execution: models.CharField[str | None, str | None] = models.CharField(max_length=32, null=True)
    command: models.IntegerField[int, int] = models.IntegerField()
    attempt: models.IntegerField[int, int] = models.IntegerField()
    name: models.TextField[str | None, str | None] = models.TextField(_("name"), null=True)
    payload_data: PayloadField = PayloadField(db_column="payload", null=True)
    facts: models.TextField[str | None, str | None] = models.TextField(null=True)
    visible_at: MomentField = MomentField(_("visible at"))
    wake_at: MomentField = MomentField(_("wakes at"), null=True)
    check_at: MomentField = MomentField(_("looked at again"), null=True)
    sends: models.IntegerField[int, int] = models.IntegerField(_("sent"))

    class Meta(StoreModel.Meta):
        abstract = False
        db_table = "durable_inbox"
        verbose_name: Any = _("inbox message")
        verbose_name_plural: Any = _("inbox messages")

    @property
    def payload(self) -> Any:
        """The decoded payload."""
        return self._decoded(self.payload_data)


class OutboxMessage(StoreModel):
    """An activity, or the end of an orchestration for Celery, that is not known to be finished."""

    payloads: tuple[str, ...] = ("message_data", "details_data")

    pk: models.CompositePrimaryKey = models.CompositePrimaryKey("execution", "command", "attempt")
    execution: models.CharField[str, str] = models.CharField(max_length=32)
    command: models.IntegerField[int, int] = models.IntegerField()
    attempt: models.IntegerField[int, int] = models.IntegerField()
    instance: models.ForeignKey[Any, Any] = models.ForeignKey(
        Instance,
        models.DO_NOTHING,
        db_column="instance",
        db_constraint=False,
        related_name="outbox",
    )
    kind: models.CharField[str, str] = models.CharField(_("kind"), max_length=10)
    name: models.CharField[str, str] = models.CharField(_("task"), max_length=200)
    message_data: PayloadField = PayloadField(db_column="message", null=True)
    queue: models.CharField[str | None, str | None] = models.CharField(
        _("queue"), max_length=200, null=True
    )
    join_command: models.IntegerField[int | None, int | None] = models.IntegerField(null=True)
    window_command: models.IntegerField[int | None, int | None] = models.IntegerField(null=True)
    is_held: models.BooleanField[bool, bool] = models.BooleanField(_("held back"))
    is_delegated: models.BooleanField[bool, bool] = models.BooleanField(_("replaced"))
    sent_at: MomentField = MomentField(_("sent at"), null=True)
    sends: models.IntegerField[int, int] = models.IntegerField(_("sent again"))
    holder: models.CharField[str | None, str | None] = models.CharField(
        _("worker"), max_length=32, null=True
    )
    check_at: MomentField = MomentField(_("looked at again"), null=True)
    deadline_at: MomentField = MomentField(_("deadline"), null=True)
    start_by: MomentField = MomentField(null=True)
    beat_by: MomentField = MomentField(null=True)
    beat_timeout: models.BigIntegerField[int | None, int | None] = models.BigIntegerField(null=True)
    details_data: PayloadField = PayloadField(db_column="details", null=True)
    crashes: models.IntegerField[int | None, int | None] = models.IntegerField(null=True)
    deferred_at: MomentField = MomentField(_("waits for its completion since"), null=True)
    gate: models.CharField[str | None, str | None] = models.CharField(max_length=10, null=True)

    class Meta(StoreModel.Meta):
        abstract = False
        db_table = "durable_outbox"
        verbose_name: Any = _("outbox message")
        verbose_name_plural: Any = _("outbox messages")


class Worker(StoreModel):
    """A worker that has shown that it lives."""

    id: models.CharField[str, str] = models.CharField(primary_key=True, max_length=32)
    hostname: models.CharField[str | None, str | None] = models.CharField(
        _("host name"), max_length=200, null=True
    )
    started_at: MomentField = MomentField(_("started at"))
    last_seen: MomentField = MomentField(_("last seen"))
    told_at: MomentField = MomentField(_("told at"), null=True)
    declares: models.TextField[str | None, str | None] = models.TextField(_("declares"), null=True)

    class Meta(StoreModel.Meta):
        abstract = False
        db_table = "durable_workers"
        verbose_name: Any = _("worker")
        verbose_name_plural: Any = _("workers")

    def __str__(self) -> str:
        return str(self.hostname or self.id)
