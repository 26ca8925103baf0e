"""The first tables: what revision 0001 of the store makes."""

from typing import Any, ClassVar

from django.db import migrations, models

from celery_durable.contrib.django.fields import MomentField
from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    initial = True
    operations: ClassVar[list[Any]] = [
        StoreRevision("0001"),
        migrations.CreateModel(
            name="Instance",
            fields=[
                (
                    "id",
                    models.CharField(
                        max_length=150, primary_key=True, serialize=False, verbose_name="id"
                    ),
                ),
                ("execution", models.CharField(max_length=32, verbose_name="execution")),
                ("name", models.CharField(max_length=200, verbose_name="orchestrator")),
                ("version", models.CharField(max_length=50, null=True, verbose_name="version")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("PENDING", "Pending"),
                            ("RUNNING", "Running"),
                            ("SUSPENDED", "Suspended"),
                            ("COMPLETED", "Completed"),
                            ("FAILED", "Failed"),
                            ("CANCELED", "Canceled"),
                            ("TERMINATED", "Terminated"),
                        ],
                        max_length=12,
                        verbose_name="status",
                    ),
                ),
                ("reason", models.TextField(null=True, verbose_name="reason")),
                ("sequence", models.IntegerField(verbose_name="turns")),
                ("input_data", models.BinaryField(db_column="input", null=True)),
                ("output_data", models.BinaryField(db_column="output", null=True)),
                ("failure_data", models.BinaryField(db_column="failure", null=True)),
                ("custom_status_data", models.BinaryField(db_column="custom_status", null=True)),
                ("parent_execution", models.CharField(max_length=32, null=True)),
                ("parent_command", models.IntegerField(null=True)),
                ("parent_attempt", models.IntegerField(null=True)),
                ("root_id", models.CharField(max_length=200, null=True, verbose_name="root id")),
                ("tags_text", models.TextField(db_column="tags", null=True)),
                ("canvas_data", models.BinaryField(db_column="canvas", null=True)),
                ("queue", models.CharField(max_length=200, null=True, verbose_name="queue")),
                ("crashes", models.IntegerField(verbose_name="crashes")),
                ("created_at", MomentField(verbose_name="created at")),
                ("started_at", MomentField(null=True, verbose_name="started at")),
                ("updated_at", MomentField(verbose_name="updated at")),
                ("completed_at", MomentField(null=True, verbose_name="completed at")),
                (
                    "parent",
                    models.ForeignKey(
                        "celery_durable.instance",
                        models.DO_NOTHING,
                        db_constraint=False,
                        null=True,
                        related_name="children",
                        verbose_name="parent",
                    ),
                ),
            ],
            options={
                "verbose_name": "orchestration",
                "verbose_name_plural": "orchestrations",
                "db_table": "durable_instances",
                "ordering": ("-created_at", "-id"),
                "permissions": (
                    ("view_payload", "Can view inputs, outputs and other payloads"),
                    ("start_instance", "Can start orchestrations"),
                    ("raise_event_instance", "Can raise events on orchestrations"),
                    ("suspend_instance", "Can suspend orchestrations"),
                    ("resume_instance", "Can resume orchestrations"),
                    ("cancel_instance", "Can cancel orchestrations"),
                    ("terminate_instance", "Can terminate orchestrations"),
                    ("rewind_instance", "Can rewind orchestrations"),
                    ("restart_instance", "Can restart orchestrations"),
                    ("fork_instance", "Can fork orchestrations"),
                    ("override_instance", "Can override outcomes in orchestrations"),
                    ("purge_instance", "Can purge orchestrations"),
                ),
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Entity",
            fields=[],
            options={
                "verbose_name": "entity",
                "verbose_name_plural": "entities",
                "managed": False,
                "proxy": True,
                "default_permissions": ("view",),
                "indexes": [],
                "constraints": [],
            },
            bases=("celery_durable.instance",),
        ),
        migrations.CreateModel(
            name="History",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "instance_id",
                        "execution",
                        "sequence",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("execution", models.CharField(max_length=32)),
                ("sequence", models.IntegerField()),
                ("events_data", models.BinaryField(db_column="events")),
                (
                    "instance",
                    models.ForeignKey(
                        "celery_durable.instance",
                        models.DO_NOTHING,
                        db_column="instance",
                        db_constraint=False,
                        related_name="history",
                    ),
                ),
            ],
            options={
                "verbose_name": "history",
                "verbose_name_plural": "histories",
                "db_table": "durable_history",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="InboxMessage",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("dedup", models.CharField(max_length=120)),
                ("kind", models.CharField(max_length=30, verbose_name="kind")),
                ("execution", models.CharField(max_length=32, null=True)),
                ("command", models.IntegerField()),
                ("attempt", models.IntegerField()),
                ("name", models.TextField(null=True, verbose_name="name")),
                ("payload_data", models.BinaryField(db_column="payload", null=True)),
                ("facts", models.TextField(null=True)),
                ("visible_at", MomentField(verbose_name="visible at")),
                ("wake_at", MomentField(null=True, verbose_name="wakes at")),
                ("check_at", MomentField(null=True, verbose_name="looked at again")),
                ("sends", models.IntegerField(verbose_name="sent")),
                (
                    "instance",
                    models.ForeignKey(
                        "celery_durable.instance",
                        models.DO_NOTHING,
                        db_column="instance",
                        db_constraint=False,
                        related_name="inbox",
                    ),
                ),
            ],
            options={
                "verbose_name": "inbox message",
                "verbose_name_plural": "inbox messages",
                "db_table": "durable_inbox",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "execution",
                        "command",
                        "attempt",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("execution", models.CharField(max_length=32)),
                ("command", models.IntegerField()),
                ("attempt", models.IntegerField()),
                ("kind", models.CharField(max_length=10, verbose_name="kind")),
                ("name", models.CharField(max_length=200, verbose_name="task")),
                ("message_data", models.BinaryField(db_column="message", null=True)),
                ("queue", models.CharField(max_length=200, null=True, verbose_name="queue")),
                ("join_command", models.IntegerField(null=True)),
                ("window_command", models.IntegerField(null=True)),
                ("is_held", models.BooleanField(verbose_name="held back")),
                ("is_delegated", models.BooleanField(verbose_name="replaced")),
                ("sent_at", MomentField(null=True, verbose_name="sent at")),
                ("sends", models.IntegerField(verbose_name="sent again")),
                ("holder", models.CharField(max_length=32, null=True, verbose_name="worker")),
                ("check_at", MomentField(null=True, verbose_name="looked at again")),
                ("deadline_at", MomentField(null=True, verbose_name="deadline")),
                ("start_by", MomentField(null=True)),
                ("beat_by", MomentField(null=True)),
                ("beat_timeout", models.BigIntegerField(null=True)),
                ("details_data", models.BinaryField(db_column="details", null=True)),
                (
                    "instance",
                    models.ForeignKey(
                        "celery_durable.instance",
                        models.DO_NOTHING,
                        db_column="instance",
                        db_constraint=False,
                        related_name="outbox",
                    ),
                ),
            ],
            options={
                "verbose_name": "outbox message",
                "verbose_name_plural": "outbox messages",
                "db_table": "durable_outbox",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("id", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("hostname", models.CharField(max_length=200, null=True, verbose_name="host name")),
                ("started_at", MomentField(verbose_name="started at")),
                ("last_seen", MomentField(verbose_name="last seen")),
            ],
            options={
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
                "db_table": "durable_workers",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
