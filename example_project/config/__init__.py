"""The project: settings, the Celery app with its durable orchestrations, URLs."""

from .celery import app as celery_app

__all__ = ["celery_app"]
