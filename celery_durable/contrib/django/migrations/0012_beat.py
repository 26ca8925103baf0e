"""Schedules of ``beat_schedule``, and which worker declares which."""

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
    ]
