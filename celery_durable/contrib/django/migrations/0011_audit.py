"""The audit trail, and what could not be archived yet."""

from typing import Any, ClassVar

from django.db import migrations, models

from celery_durable.contrib.django.fields import MomentField
from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("celery_durable", "0010_activity_limits")]
    operations: ClassVar[list[Any]] = [
        StoreRevision("0011", before="0010"),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("at", MomentField(verbose_name="at")),
                ("kind", models.CharField(max_length=20, verbose_name="kind")),
                ("target", models.CharField(max_length=200, null=True, verbose_name="target")),
                ("verb", models.CharField(max_length=20, verbose_name="verb")),
                ("actor", models.CharField(max_length=200, null=True, verbose_name="actor")),
                ("door", models.CharField(max_length=10, verbose_name="door")),
                ("reason", models.TextField(null=True, verbose_name="reason")),
                ("arguments", models.TextField(null=True, verbose_name="arguments")),
                ("effect", models.CharField(max_length=10, verbose_name="effect")),
                ("error", models.TextField(null=True, verbose_name="error")),
                ("made", models.CharField(max_length=150, null=True, verbose_name="made")),
            ],
            options={
                "verbose_name": "audit entry",
                "verbose_name_plural": "audit",
                "db_table": "durable_audit",
                "ordering": ("-at", "-id"),
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
