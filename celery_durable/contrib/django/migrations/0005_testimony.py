"""Up to when each worker has said which messages it has."""

from typing import Any, ClassVar

from django.db import migrations

from celery_durable.contrib.django.fields import MomentField
from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [
        ("celery_durable", "0004_admission_and_retention")
    ]
    operations: ClassVar[list[Any]] = [
        StoreRevision("0005", before="0004"),
        migrations.AddField("worker", "told_at", MomentField(null=True, verbose_name="told at")),
    ]
