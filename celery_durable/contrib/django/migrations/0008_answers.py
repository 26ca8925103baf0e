"""Answers to requests."""

from typing import Any, ClassVar

from django.db import migrations

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0007_switches")]
    operations: ClassVar[list[Any]] = [StoreRevision("0008", before="0007")]
