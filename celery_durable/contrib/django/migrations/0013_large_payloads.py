"""What lies in the payload store."""

from typing import Any, ClassVar

from django.db import migrations

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0012_beat")]
    operations: ClassVar[list[Any]] = [StoreRevision("0013", before="0012")]
