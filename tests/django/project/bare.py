"""A project whose Celery app has no durable orchestrations: the current one is another."""

from celery import Celery

from .settings import *  # noqa: F403

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "celery_durable.contrib.django",
]
ROOT_URLCONF = "tests.django.project.bare"
MIDDLEWARE = TEMPLATES = urlpatterns = []
Celery("plain", set_as_current=True)
