"""The Celery app, and the orchestrations in it.

A worker is started with ``celery -A config worker``.
"""

import os

from celery import Celery

from celery_durable import Durable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
durable = Durable(app)
app.autodiscover_tasks(["shop"], related_name="activities")
app.autodiscover_tasks(["shop"], related_name="orchestrations")
