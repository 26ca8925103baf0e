"""System checks: the findings of ``celery_durable.checks``, and those that only Django can have.

Celery runs Django's checks when a worker starts; ``manage.py check --database default`` looks at
the tables too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import Error as DatabaseError

from ...checks import Finding, add_finder, findings
from ...errors import ConfigurationError
from ...settings import Settings
from ...store.addresses import address_of
from ...store.migrate import HEAD, mismatch_of, revision_in
from .database import alias_of, is_same_url
from .project import find_app
from .shared_connection import shared_engine

__all__ = ["check_configuration", "check_tables", "register_checks"]

_TAG = "celery_durable"
_OF_CELERY = (
    "accept_content",
    "broker_url",
    "result_backend",
    "task_always_eager",
    "task_ignore_result",
)
_SETTINGS = re.compile(
    rf"\b(?:{'|'.join([*(f'durable_{field.name}' for field in fields(Settings)), *_OF_CELERY])})\b"
)


def register_checks() -> None:
    """Let Django run them."""
    register(check_configuration, _TAG)
    register(check_tables, Tags.database)
    add_finder(_find_in_django)


def check_configuration(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """Return the findings about the project's Celery app, as Django shows them."""
    app = find_app()
    if app is None:
        finding = Finding(
            "celery_durable.W006",
            "the project's Celery app has no durable orchestrations",
            "Write durable = Durable(app) below app = Celery(...) in the project's celery.py, and"
            " import that app in the __init__.py beside it.",
        )
        return [_message(finding)]
    found = [finding for finding in findings(app.durable) if not _is_meant(finding)]
    prefix = str(app.conf.prefix or "")  # known once the configuration has been read
    return [_message(_as_in_django(finding, prefix)) for finding in found]


def _as_in_django(finding: Finding, prefix: str) -> Finding:
    """Name settings as Django's settings do: ``CELERY_DURABLE_BACKEND_URL``.

    A name that was given otherwise stays as it was.
    """
    if not prefix or finding.id == "celery_durable.W008":
        return finding

    def named(text: str) -> str:
        return _SETTINGS.sub(lambda found: f"{prefix}{found[0].upper()}", text)

    return replace(finding, message=named(finding.message), hint=named(finding.hint))


def _is_meant(finding: Finding) -> bool:
    """Tell what is no risk while a project is developed or tested."""
    is_testing = len(sys.argv) > 1 and sys.argv[1] == "test"
    return finding.id == "celery_durable.W001" and (bool(django_settings.DEBUG) or is_testing)


def check_tables(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Tell if the store's tables are missing, or behind this release."""
    app = find_app()
    if app is None or (len(sys.argv) > 1 and sys.argv[1] == "migrate"):
        return []  # which is about to make them
    alias = alias_of(str(app.conf.get("durable_backend_url") or ""))
    if alias is None or alias not in (databases or ()):
        return []
    try:
        with shared_engine(connections[alias]).connect() as connection:
            found, mismatch = revision_in(connection), mismatch_of(connection)
    except DatabaseError:
        return []  # Django's own checks tell of databases that cannot be reached
    if mismatch is None:
        return []
    hint = "Run manage.py migrate" + ("." if alias == DEFAULT_DB_ALIAS else f" --database={alias}.")
    if found is not None and found > HEAD:
        hint = "Install the release of celery-durable that has made them."
    return [_message(Finding("celery_durable.E002", f"the database {alias!r} {mismatch}", hint))]


def _find_in_django(durable: Any, settings: Settings | None) -> Iterator[Finding]:
    if settings is None:
        return
    try:
        url = address_of(settings.backend_url).url
    except ConfigurationError:
        return  # which is a finding already
    alias = alias_of(settings.backend_url)
    if alias is not None and not connections.settings[alias].get("AUTOCOMMIT", True):
        yield Finding(
            "celery_durable.W009",
            f"the database {alias!r}, which the store is in, has AUTOCOMMIT = False: what is"
            " started, or answered by a link or over HTTP, is there only once your own code"
            " commits",
            "Let Django commit: take AUTOCOMMIT away, and use atomic() or ATOMIC_REQUESTS.",
        )
    if alias != DEFAULT_DB_ALIAS and not is_same_url(DEFAULT_DB_ALIAS, url):
        yield Finding(
            "celery_durable.W002",
            "the store is"
            f" {f'the database {alias!r}' if alias else url.render_as_string(hide_password=True)},"
            f" the project's rows are in {DEFAULT_DB_ALIAS!r}: what is started inside atomic() does"
            " not commit or roll back with them",
            f'Set CELERY_DURABLE_BACKEND_URL = "django://{DEFAULT_DB_ALIAS}".',
        )


def _message(finding: Finding) -> CheckMessage:
    kind = {"error": Error, "warning": Warning, "note": Info}[finding.kind]
    return kind(finding.message, hint=finding.hint, id=finding.id)
