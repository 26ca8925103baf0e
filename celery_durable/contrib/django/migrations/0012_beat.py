"""Schedules of ``beat_schedule``, and which worker declares which."""

from django.db import migrations, models

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies = [("celery_durable", "0011_audit")]
    operations = [
        StoreRevision("0012", before="0011"),
        migrations.AddField(
            "worker", "declares", models.TextField(null=True, verbose_name="declares")
        ),
        migrations.AddField(
            "schedule", "is_declared", models.BooleanField(null=True, verbose_name="declared")
        ),
    ]
