"""Switches of operators, and what pauses hold."""

from django.db import migrations, models

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies = [("celery_durable", "0006_deferred")]
    operations = [
        StoreRevision("0007", before="0006"),
        migrations.AddField("outboxmessage", "gate", models.CharField(max_length=10, null=True)),
    ]
