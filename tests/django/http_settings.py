"""The shared project with the HTTP contract, served as strictly as a project may ask for."""

from .project.settings import *  # noqa: F403
from .project.settings import DATABASES, MIDDLEWARE

ROOT_URLCONF = "tests.django.http_urls"
DATABASES["default"]["ATOMIC_REQUESTS"] = True
MIDDLEWARE = [*MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
SECRET_KEY = "the newer one of two secrets"
SECRET_KEY_FALLBACKS = ["the older one of two secrets"]
CELERY_DURABLE_PAYLOAD_LIMIT = 10_000
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
}
