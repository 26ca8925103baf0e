"""The test project with its admin, over a store in an SQLite file of each test's own.

Turns and activities run at once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from celery import _state, signals

_SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.django.project.settings"}


@contextmanager
def _for_itself() -> Iterator[None]:
    """Let the project's Celery app and its shared tasks be none of other tests' business, which
    share this process.
    """
    heard = {
        signal: list(signal.receivers or ())
        for signal in (signals.import_modules, signals.worker_init)
    }
    finalizers, current = set(_state._on_app_finalizers), _state._tls.current_app
    before = {name: os.environ.get(name) for name in _SETTINGS}
    os.environ.update(_SETTINGS)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        _state._tls.current_app = current
        _state._on_app_finalizers.intersection_update(finalizers)
        for signal, receivers in heard.items():
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()


with _for_itself():
    import django

    django.setup()
    from tests.django.project.celery import app as _app
    from tests.django.project.celery import durable as _durable
    from tests.django.project.orders import tasks as _tasks

    _app.finalize()
    assert _tasks.approval.name in _durable.registry


class Page(HTMLParser):
    """A page, taken apart: its elements, its text, and what a strict content security policy would
    refuse.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self.texts: list[str] = []
        self.continues = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.continues = tag == "wbr"
        given = dict(attrs)
        self.elements.append((tag, given))
        self.inline += [
            f"<{tag} {name}>" for name in given if name == "style" or name.startswith("on")
        ]
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.inline.append(f"<{tag}>")
        self.inline += [
            f"<{tag} {name}={value}>"
            for name, value in given.items()
            if (value or "").startswith("javascript:")
        ]

    def handle_data(self, data: str) -> None:
        if self.continues and self.texts:
            data = self.texts.pop() + data
        self.continues = False
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def find(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        """Return the attributes of elements; ``data_instance`` stands for ``data-instance``."""
        names = {name.replace("_", "-"): value for name, value in wanted.items()}
        return [
            given
            for each, given in self.elements
            if each == tag and all(given.get(name) == value for name, value in names.items())
        ]


@dataclass
class Site:
    """The admin of the test project, and whoever uses it."""

    durable: Any
    client: Any
    address: Callable[..., str]
    names: list[str] = field(default_factory=list)

    def login(self, *permissions: str, is_superuser: bool = False, is_staff: bool = True) -> Any:
        """Log a user in who has these permissions of celery_durable."""
        from django.contrib.auth.models import Permission, User
        from django.test import Client

        name = f"user{len(self.names)}"
        self.names.append(name)
        user = User.objects.create_user(name, is_staff=is_staff, is_superuser=is_superuser)
        found = Permission.objects.filter(
            content_type__app_label="celery_durable", codename__in=permissions
        )
        assert {each.codename for each in found} == set(permissions)
        user.user_permissions.add(*found)
        self.client = Client(enforce_csrf_checks=False)
        self.client.force_login(user)
        return user

    def get(self, url: str, code: int = 200, **query: Any) -> Page:
        """Return a page, which has nothing inline."""
        response = self.client.get(url, query or None)
        assert response.status_code == code, response.content.decode()[:2000]
        page = Page(response.content.decode())
        assert page.inline == []
        return page

    def post(self, url: str, code: int = 302, **data: Any) -> Page:
        """Send a form; return the page it answers with, or the one that it leads to."""
        response = self.client.post(url, data)
        assert response.status_code == code, response.content.decode()[:2000]
        if code == 302:
            response = self.client.get(response["Location"])
            assert response.status_code == 200
        page = Page(response.content.decode())
        assert page.inline == []
        return page

    def apply(self, verb: str, *ids: str, code: int = 302, **data: Any) -> Page:
        """Confirm a verb for these."""
        from celery_durable.contrib.django.admin.addresses import quoted

        data = {"verb": verb, "id": [quoted(each) for each in ids], "confirm": "yes", **data}
        return self.post(self.address("instance_apply"), code, **data)

    def start(self, task: Any, *args: Any, id: str, **options: Any) -> Any:
        """Start an orchestration, which runs at once as far as it can."""
        return self.durable.start(task.s(*args), instance_id=id, **options)

    def status(self, instance_id: str) -> str:
        return str(self.durable.get(instance_id).runtime_status)

    def log(self) -> list[tuple[str, str]]:
        """Return what Django's admin log holds: ids and messages, the newest first."""
        from django.contrib.admin.models import LogEntry

        return [
            (entry.object_id, entry.change_message) for entry in LogEntry.objects.order_by("-pk")
        ]

    def page(self, instance_id: str, code: int = 200, **query: Any) -> Page:
        from celery_durable.contrib.django.admin.addresses import quoted

        return self.get(self.address("instance_change", quoted(instance_id)), code, **query)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Path:
    """An SQLite file with all tables of the test project."""
    from django.core.management import call_command
    from django.db import connections

    path = tmp_path_factory.mktemp("migrated") / "app.db"
    with _database(str(path), django_db_blocker):
        call_command("migrate", verbosity=0)
        connections["default"].close()
    return path


class _database:  # a context manager, named as what it stands for
    """Let Django's default database be this file."""

    def __init__(self, name: str, blocker: Any) -> None:
        from django.db import connections

        self._wrapper, self._name = connections["default"], name
        self._blocking = blocker.unblock() if blocker is not None else None

    def __enter__(self) -> None:
        if self._blocking is not None:
            self._blocking.__enter__()
        self._wrapper.close()
        self._old, self._wrapper.settings_dict["NAME"] = (
            self._wrapper.settings_dict["NAME"],
            self._name,
        )

    def __exit__(self, *_: Any) -> None:
        self._wrapper.close()
        self._wrapper.settings_dict["NAME"] = self._old
        if self._blocking is not None:
            self._blocking.__exit__(None, None, None)


@pytest.fixture
def store(tmp_path: Path) -> str | None:
    """The store's URL; a test overrides this to put it elsewhere than Django's tables."""
    return None


@pytest.fixture
def site(
    migrated: Path, tmp_path: Path, django_db_blocker: Any, store: str | None
) -> Iterator[Site]:
    """The admin, with a superuser logged in."""
    from django.test import override_settings
    from django.urls import reverse

    app, durable = _app, _durable
    path = tmp_path / "app.db"
    shutil.copy(migrated, path)
    url = store or "django://default"
    before = {
        name: app.conf.get(name)
        for name in ("task_always_eager", "durable_backend_url", "durable_recovery_interval")
    }
    # until Celery 5.6 Django's settings come before app.conf's
    with (
        _for_itself(),
        _database(str(path), django_db_blocker),
        override_settings(CELERY_DURABLE_BACKEND_URL=url),
    ):
        app.set_current()
        app.conf.update(task_always_eager=True, durable_backend_url=url)
        runtime, durable._runtime = durable._runtime, None
        if store is not None:
            durable.migrate()
        made = Site(
            durable, None, lambda name, *args: reverse(f"admin:celery_durable_{name}", args=args)
        )
        made.login(is_superuser=True)
        yield made
        if durable._runtime is not None:
            durable._runtime.store.database.dispose()
        durable._runtime = runtime
        app.conf.update(before)
