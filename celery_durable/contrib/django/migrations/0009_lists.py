"""What the lists of operators are found by, at no cost for a turn."""

from typing import Any, ClassVar

from django.db import migrations, models

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0008_answers")]
    operations: ClassVar[list[Any]] = [
        StoreRevision("0009", before="0008"),
        migrations.AddField("instance", "is_lasting", models.BooleanField(null=True)),
        migrations.AddField("instance", "listed_as", models.CharField(max_length=12, null=True)),
    ]
