"""A database of ``settings.DATABASES`` as the store's: workers and web processes build their own
engine from its alias.

Translated is what Django itself would connect with, at the moment it is asked: during tests that is
the test database. Passwords go into the arguments of the driver, never into a URL that could be
shown.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from ...errors import ConfigurationError
from ...store.addresses import Address, read_url
from .project import find_app

__all__ = [
    "address_of_alias",
    "alias_of",
    "is_same_database",
    "is_same_url",
    "is_supported",
    "store_alias",
]

_APP = "celery_durable.contrib.django"
_SCHEME = "django://"
_FAMILIES = {"postgresql": "postgresql", "sqlite": "sqlite", "mysql": "mysql"}
# of Django's own connections
_NOT_FOR_US = ("client_encoding", "context", "cursor_factory", "prepare_threshold")
# where Django's connections go, and how safely, in PyMySQL's words; what they are like inside is
# not for us
_MYSQL = (
    "user",
    "password",
    "database",
    "host",
    "port",
    "unix_socket",
    "bind_address",
    "connect_timeout",
    "max_allowed_packet",
    "read_default_file",
    "read_default_group",
    "auth_plugin_map",
    "server_public_key",
    "ssl",
    "ssl_ca",
    "ssl_cert",
    "ssl_key",
    "ssl_key_password",
    "ssl_verify_cert",
    "ssl_verify_identity",
    "ssl_disabled",
)
_MYSQL_OLD = {"passwd": "password", "db": "database"}
_SSL_MODES: dict[str, dict[str, Any]] = {  # of mysqlclient, as PyMySQL's ``ssl``
    "PREFERRED": {},
    "REQUIRED": {"check_hostname": False},
    "VERIFY_CA": {"check_hostname": False, "verify_mode": "required"},
    "VERIFY_IDENTITY": {"check_hostname": True, "verify_mode": "required"},
}


def address_of_alias(alias: str) -> Address:
    """Return where the database of an alias is, and how it is connected to.

    Raises:
        ConfigurationError: there is no such alias, or its engine is none that the store can live
            in.
    """
    if apps.apps_ready and not apps.is_installed(_APP):
        raise ConfigurationError(
            f"durable_backend_url is django://{alias}, but {_APP!r} is not in INSTALLED_APPS:"
            " starts would not join transactions",
            setting="durable_backend_url",
        )
    try:
        wrapper = connections[alias]
    except ConnectionDoesNotExist:
        known = ", ".join(repr(name) for name in connections)
        raise ConfigurationError(
            f"durable_backend_url names the alias {alias!r}, which DATABASES does not have; there"
            f" are {known}",
            setting="durable_backend_url",
            alias=alias,
        ) from None
    except ImproperlyConfigured as error:
        raise ConfigurationError(
            f"the database {alias!r} cannot be used: {error}", alias=alias
        ) from error
    try:
        url, arguments = _TRANSLATE[_vendor_of(wrapper)](wrapper)
    except ImproperlyConfigured as error:
        raise ConfigurationError(
            f"the database {alias!r} cannot be used: {error}", alias=alias
        ) from error
    seen = _fingerprint(alias)
    options = {"connect_args": arguments} if arguments else {}
    return Address(url, options, lambda: _fingerprint(alias) == seen, name=alias)


def _vendor_of(wrapper: Any) -> str:
    if not is_supported(wrapper):
        raise ConfigurationError(
            f"the database {wrapper.alias!r} is {wrapper.settings_dict['ENGINE']!r}"
            f" ({wrapper.vendor}): the store can live in PostgreSQL, SQLite and MySQL/MariaDB. Give"
            " durable_backend_url another alias",
            setting="durable_backend_url",
            alias=wrapper.alias,
        )
    return str(wrapper.vendor)


def is_supported(wrapper: Any) -> bool:
    """Tell whether the store can live in the database of one of Django's connections."""
    return wrapper.vendor in _FAMILIES


def _fingerprint(alias: str) -> tuple[str, ...]:
    settings = connections.settings[alias]
    return tuple(str(settings.get(key)) for key in ("ENGINE", "NAME", "HOST", "PORT", "USER"))


# -- one for each engine ---------------------------------------------------------------------------


def _postgresql(wrapper: Any) -> tuple[sa.URL, dict[str, Any]]:
    given = wrapper.get_connection_params()
    arguments = {key: value for key, value in given.items() if key not in _NOT_FOR_US}
    if role := wrapper.settings_dict["OPTIONS"].get("assume_role"):
        arguments["options"] = " ".join(filter(None, (arguments.get("options"), f"-c role={role}")))
    # what is in the URL is shown; the service file may know better, so nothing is made up
    host = arguments.get("host")
    url = sa.URL.create(
        "postgresql+psycopg",
        username=arguments.get("user"),
        host=None if host is None or "/" in str(host) else host,
        port=int(arguments["port"]) if str(arguments.get("port") or "").isdigit() else None,
        database=arguments.get("dbname"),
    )
    return url, arguments


def _sqlite(wrapper: Any) -> tuple[sa.URL, dict[str, Any]]:
    name = str(wrapper.get_connection_params()["database"])
    if wrapper.is_in_memory_db():
        return sa.URL.create("sqlite", database=":memory:"), {}
    if name.startswith("file:"):
        return sa.URL.create("sqlite", database=name, query={"uri": "true"}), {}
    return sa.URL.create("sqlite", database=str(Path(name).absolute())), {}


def _mysql(wrapper: Any) -> tuple[sa.URL, dict[str, Any]]:
    given = {
        _MYSQL_OLD.get(name, name): value for name, value in wrapper.get_connection_params().items()
    }
    arguments = {name: given[name] for name in _MYSQL if given.get(name) not in (None, "")}
    arguments |= {"charset": "utf8mb4", **_mysql_ssl(given)}
    url = sa.URL.create(
        "mysql+pymysql",
        username=arguments.get("user"),
        host=arguments.get("host"),
        port=arguments.get("port"),
        database=arguments.get("database"),
    )
    return url, arguments


def _mysql_ssl(given: dict[str, Any]) -> dict[str, Any]:
    """Return in PyMySQL's words what mysqlclient is told by ``ssl_mode``, or by ``ssl=True``."""
    files = given.get("ssl")
    mode = given.get("ssl_mode") or ("REQUIRED" if files is True else None)
    if mode is None:
        return {}
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    files = files if isinstance(files, dict) else {}
    if mode not in _SSL_MODES or (mode == "VERIFY_IDENTITY" and "ca" not in files):
        raise ImproperlyConfigured(
            f"the store cannot connect with OPTIONS['ssl_mode'] = {mode!r}: it is one of DISABLED,"
            f" {', '.join(_SSL_MODES)}, and VERIFY_IDENTITY needs OPTIONS['ssl']['ca']"
        )
    return {"ssl": {**files, **_SSL_MODES[mode]}}


_TRANSLATE = {"postgresql": _postgresql, "sqlite": _sqlite, "mysql": _mysql}


# -- which alias is the store ----------------------------------------------------------------------


def store_alias() -> str | None:
    """Return the alias of the database that the project's store lives in.

    None if it is none of ``DATABASES``.
    """
    app = find_app()
    return None if app is None else alias_of(str(app.conf.get("durable_backend_url") or ""))


def alias_of(url: str) -> str | None:
    """Return the alias that a ``durable_backend_url`` means, by its name or as the same database by
    URL; None if none.
    """
    if url.startswith(_SCHEME):
        alias = url.removeprefix(_SCHEME).strip("/")
        return alias if alias in connections.settings else None
    if not url:
        return None
    wanted = read_url(url)
    return next((alias for alias in connections if is_same_url(alias, wanted)), None)


def is_same_database(alias: str, database: Any) -> bool:
    """Tell whether the store's database is that of an alias."""
    return database.address.name == alias or is_same_url(alias, database.url)


def is_same_url(alias: str, wanted: sa.URL) -> bool:
    """Tell whether a URL means the database of an alias."""
    try:
        found = address_of_alias(alias)
    except ConfigurationError:
        return False
    arguments = found.options.get("connect_args", {})
    if found.url.get_backend_name() != wanted.get_backend_name().replace("mariadb", "mysql"):
        return False
    if found.url.get_backend_name() == "sqlite":
        return _file_of(found.url) == _file_of(wanted) is not None
    default_port = {"postgresql": 5432, "mysql": 3306}[found.url.get_backend_name()]
    here = (
        arguments.get("host") or "localhost",
        int(arguments.get("port") or default_port),
        found.url.database,
    )
    there = (wanted.host or "localhost", wanted.port or default_port, wanted.database)
    return here == there


def _file_of(url: sa.URL) -> str | None:
    name = url.database
    if name in (None, "", ":memory:"):
        return None
    return os.path.realpath(str(name).removeprefix("file:").partition("?")[0])
