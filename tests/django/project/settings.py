"""Settings of the test project; its database and broker are chosen by the environment."""

import json
import os
from pathlib import Path

from celery_durable import RetryPolicy

_HERE = Path(os.environ.get("DURABLE_DJANGO_DIR", Path(__file__).parent))
_SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": _HERE / "app.db",
    "OPTIONS": {"timeout": 20},
}

SECRET_KEY = "only for tests"
DEBUG = os.environ.get("DURABLE_DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DATABASES = {
    "default": (
        json.loads(os.environ["DURABLE_DJANGO_DATABASE"])
        if "DURABLE_DJANGO_DATABASE" in os.environ
        else _SQLITE
    )
}
if "mysql" in DATABASES["default"]["ENGINE"]:
    import pymysql

    pymysql.install_as_MySQLdb()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.django.project.urls"
STATIC_URL = "/static/"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "celery_durable.contrib.django",
    "tests.django.project.orders",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

TASKS = {  # of Django 6.0 and later
    "default": {
        "BACKEND": "celery_durable.contrib.django.tasks.DurableBackend",
        "QUEUES": ["default", "mails"],
        "OPTIONS": {"retry": RetryPolicy(first_interval=0, max_attempts=3)},
    },
    "once": {
        "BACKEND": "celery_durable.contrib.django.tasks.DurableBackend",
        "QUEUES": [],
        "OPTIONS": {"timeout": 600},
    },
    "immediate": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"},
}
CELERY_BROKER_URL = os.environ.get("DURABLE_DJANGO_BROKER", "memory://")
CELERY_TASK_IGNORE_RESULT = True
CELERY_DURABLE_BACKEND_URL = os.environ.get("DURABLE_DJANGO_STORE", "django://default")
CELERY_DURABLE_RECOVERY_INTERVAL = 0.2
CELERY_DURABLE_RESEND_AFTER = 1.0
CELERY_DURABLE_HEARTBEAT_INTERVAL = 0.5
CELERY_DURABLE_WORKER_LEASE = 2.0
TIME_ZONE = "UTC"  # Django sets it for the whole process
