"""How often the worker of an activity died."""

from typing import Any, ClassVar

from django.db import migrations, models

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0001_initial")]
    operations: ClassVar[list[Any]] = [
        StoreRevision("0002", before="0001"),
        migrations.AddField("outboxmessage", "crashes", models.IntegerField(null=True)),
    ]
