"""Settings: with no environment variable set everything runs on one machine with no server.

See the README for production.
"""

import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

BASE = Path(__file__).resolve().parent.parent
# the databases, where no server is named
DIRECTORY = Path(os.environ.get("SHOP_DIRECTORY", BASE / "data"))
DIRECTORY.mkdir(parents=True, exist_ok=True)


def database(url):
    """Return Django's settings for ``postgresql://user:password@host:port/name``, or for SQLite if
    there is no URL.
    """
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DIRECTORY / "shop.db",
            "OPTIONS": {
                "timeout": 30,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            },
        }
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise ImproperlyConfigured(
            "SHOP_DATABASE is a URL of PostgreSQL, such as postgresql://localhost/shop, not"
            f" {parts.scheme}://"
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.strip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
    }


DEBUG = os.environ.get("SHOP_DEBUG", "1") == "1"
SECRET_KEY = os.environ.get(
    "SHOP_SECRET_KEY", "not-secret-good-for-a-demonstration-only" if DEBUG else ""
)
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "with SHOP_DEBUG=0 the shop needs a SHOP_SECRET_KEY, which signs sessions and approval"
        " links"
    )
ALLOWED_HOSTS = os.environ.get("SHOP_HOSTS", "127.0.0.1,localhost,testserver").split(",")
DATABASES = {"default": database(os.environ.get("SHOP_DATABASE"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "celery_durable.contrib.django",
    "shop",
    "payments",
    "warehouse",
    "fakes",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
STATIC_URL = "static/"
STATIC_ROOT = DIRECTORY / "static"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "catalogue"
LOGOUT_REDIRECT_URL = "catalogue"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
# cookies know no ports: another program on localhost must not log our customers out
SESSION_COOKIE_NAME = "shop_session"
CSRF_COOKIE_NAME = "shop_csrf"

# -- Celery and its orchestrations: the store is Django's own database, so that a start is part of
# the view's transaction

CELERY_BROKER_URL = os.environ.get("SHOP_BROKER", f"durable:///{DIRECTORY / 'broker.db'}")
CELERY_RESULT_BACKEND = os.environ.get("SHOP_RESULTS") or None
CELERY_TASK_IGNORE_RESULT = CELERY_RESULT_BACKEND is None
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("SHOP_QUEUE", "shop")
if "SHOP_KEY_PREFIX" in os.environ:  # on a Redis that others use, too
    CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": os.environ["SHOP_KEY_PREFIX"]}
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_DURABLE_BACKEND_URL = "django://default"
CELERY_DURABLE_RETENTION = timedelta(days=90)  # how long finished ones are kept
CELERY_DURABLE_WORKER_LEASE = float(os.environ.get("SHOP_WORKER_LEASE", "10"))
CELERY_DURABLE_HEARTBEAT_INTERVAL = CELERY_DURABLE_WORKER_LEASE / 5
CELERY_DURABLE_RECOVERY_INTERVAL = min(1.0, CELERY_DURABLE_WORKER_LEASE / 5)
CELERY_DURABLE_RESEND_AFTER = min(5.0, CELERY_DURABLE_WORKER_LEASE)

# -- the shop --------------------------------------------------------------------------------------

# of the shop, for links in letters, and of the fakes
SHOP_URL = os.environ.get("SHOP_URL", "http://127.0.0.1:8000")
SHOP_APPROVAL_LIMIT = 500_00  # cents; dearer orders are approved by a human
SHOP_APPROVER = "approvals@shop.example"
# how long a day lasts, in seconds: make it 10, and watch
SHOP_DAY = float(os.environ.get("SHOP_DAY", "86400"))
EMAIL_BACKEND = "shop.letters.Outbox"
DEFAULT_FROM_EMAIL = "shop@shop.example"

# what the shop and the services it uses know of each other
PAYMENTS_KEY = os.environ.get("SHOP_PAYMENTS_KEY", "payments-key-for-a-demonstration")
WAREHOUSE_KEY = os.environ.get("SHOP_WAREHOUSE_KEY", "warehouse-key-for-a-demonstration")
WAREHOUSE_WEBHOOK_SECRET = os.environ.get(
    "SHOP_WEBHOOK_SECRET", "webhook-secret-for-a-demonstration"
)
WAREHOUSE_DELIVERY_DAYS = float(os.environ.get("SHOP_DELIVERY_DAYS", "3"))
