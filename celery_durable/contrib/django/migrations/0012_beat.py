"""Schedules of ``beat_schedule``, which worker declares which, and permissions to make and change
schedules.
"""

from typing import Any, ClassVar

from django.db import migrations, models

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0011_audit")]
    operations: ClassVar[list[Any]] = [
        StoreRevision("0012", before="0011"),
        migrations.AddField(
            "worker", "declares", models.TextField(null=True, verbose_name="declares")
        ),
        migrations.AddField(
            "schedule", "is_declared", models.BooleanField(null=True, verbose_name="declared")
        ),
        migrations.AlterModelOptions(
            name="schedule",
            options={
                "default_permissions": ("view", "add", "change"),
                "managed": False,
                "ordering": ("name",),
                "permissions": (
                    ("pause_schedule", "Can pause schedules"),
                    ("resume_schedule", "Can resume schedules"),
                    ("trigger_schedule", "Can start orchestrations of schedules now"),
                    ("delete_schedule", "Can delete schedules"),
                ),
                "verbose_name": "schedule",
                "verbose_name_plural": "schedules",
            },
        ),
    ]
