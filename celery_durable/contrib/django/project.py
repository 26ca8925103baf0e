"""Which Celery app, and which ``Durable``, a Django project has: the current one, or that of its
``celery`` module.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

from celery import Celery, current_app

from ...errors import ConfigurationError

__all__ = ["app_of_project", "durable_of_project", "find_app"]


def find_app() -> Celery | None:
    """Return the project's Celery app that has durable orchestrations; None if there is none.

    It is the current app, as in Celery's own guide for Django. A project whose package does not
    import its ``celery`` module is helped: ``<package of the settings>.celery`` is imported.
    """
    if (app := _current()) is None:
        _import_celery_module()
        app = _current()
    return app


def app_of_project() -> Celery:
    """Return the project's Celery app.

    Raises:
        ConfigurationError: there is none with durable orchestrations.
    """
    app = find_app()
    if app is None:
        raise ConfigurationError(
            "the Celery app of this project has no durable orchestrations. Write durable ="
            " Durable(app) below app = Celery(...) in its celery.py, and import that app in the"
            " __init__.py beside it, as Celery's guide for Django says"
        )
    return app


def durable_of_project() -> Any:
    """Return the ``Durable`` of the project's Celery app; see ``app_of_project``."""
    return app_of_project().durable


def _current() -> Celery | None:
    app: Celery = current_app._get_current_object()
    return app if getattr(app, "durable", None) is not None else None


def _import_celery_module() -> None:
    package = os.environ.get("DJANGO_SETTINGS_MODULE", "").partition(".")[0]
    if not package:
        return
    name = f"{package}.celery"
    try:
        exists = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return
    if exists:
        importlib.import_module(name)
