"""Answers to requests."""

from django.db import migrations

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies = [("celery_durable", "0007_switches")]
    operations = [StoreRevision("0008", before="0007")]
