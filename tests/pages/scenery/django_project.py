"""A Django project in this directory, by the names that pages use: ``shop`` with models, views and
an app of Celery's; its tables are in an SQLite file.
"""

import sys
from types import ModuleType

import django
from celery import Celery
from django.conf import settings
from django.core.management import call_command

from celery_durable import Durable

settings.configure(
    SECRET_KEY="only for tests",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "app.db",
            "TEST": {"NAME": ":memory:"},
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    },
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "celery_durable.contrib.django",
    ],
    USE_TZ=True,
    ROOT_URLCONF="page",
    ALLOWED_HOSTS=["*"],
    EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    CELERY_DURABLE_BACKEND_URL="django://default",
    CELERY_BROKER_URL="memory://",
)
django.setup()

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
durable = Durable(app)
call_command("migrate", verbosity=0)


def module(name, **names):
    """Make a module that blocks import from."""
    made = sys.modules[name] = ModuleType(name)
    vars(made).update(names)
    if "." in name:
        setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], made)
    return made


module("shop").__path__ = []
module("shop.celery", app=app, durable=durable)
