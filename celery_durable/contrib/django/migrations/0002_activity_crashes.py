"""How often the worker of an activity died."""

from django.db import migrations, models

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies = [("celery_durable", "0001_initial")]
    operations = [
        StoreRevision("0002", before="0001"),
        migrations.AddField("outboxmessage", "crashes", models.IntegerField(null=True)),
    ]
