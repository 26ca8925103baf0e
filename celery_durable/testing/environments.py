"""Where a ``DurableEnv`` comes from."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING

from celery import current_app

from ..errors import ConfigurationError
from .env import DurableEnv
from .places import OwnFile

if TYPE_CHECKING:
    from ..app.durable import Durable

__all__ = ["current_durable", "durable_environment"]


def durable_environment(durable: Durable | None = None) -> AbstractContextManager[DurableEnv]:
    """Give a ``DurableEnv`` for a ``with`` block.

    Args:
        durable: whose orchestrations; the current app's if left out.

    Raises:
        ConfigurationError: the current app has none.

    Example:
        >>> with durable_environment(durable) as env:
        ...     assert env.run(fulfil.s("1"))["by"] == "ada"
    """
    chosen = current_durable() if durable is None else durable
    if str(chosen.app.conf.get("durable_backend_url", "")).startswith("django://"):
        testing = import_module("celery_durable.contrib.django.testing")
        env: AbstractContextManager[DurableEnv] = testing.durable_inline(chosen)
        return env
    return DurableEnv(chosen, OwnFile())


def current_durable() -> Durable:
    """Return the ``Durable`` of the current Celery app.

    Raises:
        ConfigurationError: it has none.
    """
    durable: Durable | None = getattr(current_app, "durable", None)
    if durable is None:
        raise ConfigurationError(
            "the current Celery app has no durable orchestrations: import the module of your app,"
            " pass the Durable, or under pytest let a fixture durable_app return it"
        )
    return durable
