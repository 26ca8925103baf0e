"""Limits of activities: attempts that wait for slots, and slots that are taken."""

from typing import Any, ClassVar

from django.db import migrations

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0009_lists")]
    operations: ClassVar[list[Any]] = [StoreRevision("0010", before="0009")]
