"""Where the store is: an SQLAlchemy URL, or a name that another package turns into one.

``django://default`` names a database of a Django project. Who knows such names is imported only
when one is met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import sqlalchemy as sa

from .._errors import ConfigurationError

__all__ = ["Address", "address_of", "read_url"]

_RESOLVERS = {"django": "celery_durable.contrib.django.database:address_of_alias"}


@dataclass(frozen=True)
class Address:
    """A database: its URL, further arguments of ``create_engine``, whether it still is the one
    meant, and its own name.
    """

    url: sa.URL
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_current: Callable[[], bool] = lambda: True
    name: str | None = None


def address_of(url: str) -> Address:
    """Return where the store is that ``durable_backend_url`` names.

    Raises:
        ConfigurationError: it names nothing.
    """
    scheme, _, name = str(url).partition("://")
    if (place := _RESOLVERS.get(scheme)) is None:
        return Address(read_url(url))
    module, _, function = place.partition(":")
    try:
        resolver = import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"durable_backend_url is {scheme}://, and {error.name} is not installed: pip install"
            f" 'celery-durable[{scheme}]'",
            setting="durable_backend_url",
        ) from error
    address: Address = getattr(resolver, function)(name.strip("/"))
    return address


def read_url(url: str) -> sa.URL:
    """Return an SQLAlchemy URL.

    Raises:
        ConfigurationError: it is none; the text is not repeated, as it may hold a password.
    """
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError(
            "durable_backend_url is no SQLAlchemy URL, such as"
            " postgresql+psycopg://user:password@host/database",
            setting="durable_backend_url",
        ) from None
