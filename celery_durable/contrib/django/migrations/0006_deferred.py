"""Since when an activity waits for its completion by token."""

from typing import Any, ClassVar

from django.db import migrations

from celery_durable.contrib.django.fields import MomentField
from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0005_testimony")]
    operations: ClassVar[list[Any]] = [
        StoreRevision("0006", before="0005"),
        migrations.AddField(
            "outboxmessage",
            "deferred_at",
            MomentField(null=True, verbose_name="waits for its completion since"),
        ),
    ]
