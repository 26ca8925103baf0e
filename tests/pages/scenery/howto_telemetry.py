"""What the page on telemetry takes for granted. ``tests/packaging/extras`` runs its tracing."""

from types import SimpleNamespace

import structlog

import celery_durable.telemetry.logs
from tests.pages.scenery.shop import app, durable

request = SimpleNamespace(headers={})


def begin(env):
    pass


def end(env, names):
    assert b"celery_durable_up 1" in names["body"]
    import logging.config

    names["LOGGING"].pop("formatters"), names["LOGGING"]["handlers"]["console"].pop("formatter")
    logging.config.dictConfig({**names["LOGGING"], "disable_existing_loggers": False})
