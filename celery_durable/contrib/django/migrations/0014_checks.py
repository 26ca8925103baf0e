"""Indexes by which recovery reads nothing that merely waits for a worker."""

from typing import Any, ClassVar

from django.db import migrations

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0013_large_payloads")]
    operations: ClassVar[list[Any]] = [StoreRevision("0014", before="0013")]
