"""What the lists of operators are found by, at no cost for a turn."""

from django.db import migrations, models

from celery_durable.contrib.django.revisions import StoreRevision


class Migration(migrations.Migration):
    dependencies = [("celery_durable", "0008_answers")]
    operations = [
        StoreRevision("0009", before="0008"),
        migrations.AddField("instance", "is_lasting", models.BooleanField(null=True)),
        migrations.AddField("instance", "listed_as", models.CharField(max_length=12, null=True)),
    ]
