"""Schedules."""

from typing import Any, ClassVar

from django.db import migrations, models

from celery_durable.contrib.django.fields import MomentField
from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0002_activity_crashes")]
    operations: ClassVar[list[Any]] = [
        StoreRevision("0003", before="0002"),
        migrations.CreateModel(
            name="Schedule",
            fields=[
                (
                    "name",
                    models.CharField(
                        max_length=100, primary_key=True, serialize=False, verbose_name="name"
                    ),
                ),
                ("orchestrator", models.CharField(max_length=200, verbose_name="orchestrator")),
                ("input_data", models.BinaryField(db_column="input")),
                ("canvas_data", models.BinaryField(db_column="canvas", null=True)),
                ("queue", models.CharField(max_length=200, null=True, verbose_name="queue")),
                ("cron", models.TextField(null=True, verbose_name="crontab")),
                ("every", models.BigIntegerField(null=True, verbose_name="every (microseconds)")),
                ("timezone", models.CharField(max_length=100, verbose_name="time zone")),
                ("anchor_at", MomentField(verbose_name="counted from")),
                ("overlap", models.CharField(max_length=10, verbose_name="overlap")),
                ("catch_up", models.BigIntegerField(verbose_name="catch up (microseconds)")),
                ("jitter", models.BigIntegerField(verbose_name="jitter (microseconds)")),
                ("is_paused", models.BooleanField(verbose_name="paused")),
                ("reason", models.TextField(null=True, verbose_name="reason")),
                ("next_at", MomentField(null=True, verbose_name="next at")),
                ("waiting_at", MomentField(null=True, verbose_name="waiting since")),
                ("last_at", MomentField(null=True, verbose_name="last at")),
                (
                    "last_id",
                    models.CharField(max_length=150, null=True, verbose_name="last orchestration"),
                ),
                ("skipped", models.BigIntegerField(verbose_name="skipped")),
                ("check_at", MomentField(null=True)),
                ("revision", models.BigIntegerField()),
                ("created_at", MomentField(verbose_name="created at")),
                ("updated_at", MomentField(verbose_name="updated at")),
            ],
            options={
                "verbose_name": "schedule",
                "verbose_name_plural": "schedules",
                "db_table": "durable_schedules",
                "ordering": ("name",),
                "permissions": (
                    ("pause_schedule", "Can pause schedules"),
                    ("resume_schedule", "Can resume schedules"),
                    ("trigger_schedule", "Can start orchestrations of schedules now"),
                    ("delete_schedule", "Can delete schedules"),
                ),
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
