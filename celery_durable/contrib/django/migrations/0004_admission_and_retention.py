"""Admission of limited orchestrations, and how long finished ones are kept."""

from typing import Any, ClassVar

from django.db import migrations, models

from celery_durable.contrib.django.fields import MomentField
from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0003_schedules")]
    operations: ClassVar[list[Any]] = [
        StoreRevision("0004", before="0003"),
        migrations.AddField("instance", "policy", models.TextField(null=True)),
        migrations.AddField(
            "instance", "purge_at", MomentField(null=True, verbose_name="purge at")
        ),
    ]
