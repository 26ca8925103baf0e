"""Switches of operators, and what pauses hold."""

from typing import Any, ClassVar

from django.db import migrations, models

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0006_deferred")]
    operations: ClassVar[list[Any]] = [
        StoreRevision("0007", before="0006"),
        migrations.AddField("outboxmessage", "gate", models.CharField(max_length=10, null=True)),
    ]
