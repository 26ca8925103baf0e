"""Limits of activities: attempts that wait for places, and places that are taken."""

from django.db import migrations

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies = [("celery_durable", "0009_lists")]
    operations = [StoreRevision("0010", before="0009")]
