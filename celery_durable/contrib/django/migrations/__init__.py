"""One migration for each revision of the store; see ``celery_durable.contrib.django.revisions``."""
