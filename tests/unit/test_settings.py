"""The settings: read from the app's configuration, checked at once."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

import pytest
from celery import Celery

from celery_durable.errors import ConfigurationError
from celery_durable.settings import Settings, read_settings


def test_without_any_configuration_the_defaults_hold():
    assert read_settings({}) == Settings()
    assert Settings().backend_url == "sqlite:///celery-durable.db"


def test_settings_are_read_under_their_prefix_from_an_app():
    app = Celery("conf", set_as_current=False)
    app.conf.durable_backend_url = "postgresql+psycopg://u:secret@db/shop"
    app.conf.update(durable_cache_size=0, durable_inline_turns=False)
    settings = read_settings(app.conf)
    assert settings.backend_url.endswith("/shop")
    assert (settings.cache_size, settings.inline_turns) == (0, False)


def test_settings_are_read_from_a_django_like_namespace():
    class DjangoSettings:
        CELERY_DURABLE_BACKEND_URL = "sqlite:///django.db"
        CELERY_DURABLE_RECOVERY_INTERVAL = 0.5

    app = Celery("conf", set_as_current=False)
    app.config_from_object(DjangoSettings, namespace="CELERY")
    settings = read_settings(app.conf)
    assert (settings.backend_url, settings.recovery_interval) == ("sqlite:///django.db", 0.5)


class _DjangoSettings:
    """Settings as a Django project has them: an object with names in upper case."""


@pytest.mark.parametrize("prefix", ["CELERY_DURABLE_", "DURABLE_"])
@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
@pytest.mark.parametrize("namespace", ["CELERY", None])
def test_a_setting_that_no_one_reads_is_refused(
    prefix: str, name: str, namespace: str | None
) -> None:
    app = Celery("conf", set_as_current=False)
    settings, default = _DjangoSettings(), getattr(Settings(), name)
    setattr(settings, f"{prefix}{name.upper()}", default)
    app.config_from_object(settings, namespace=namespace)
    if namespace == "CELERY" and prefix == "CELERY_DURABLE_":
        assert getattr(read_settings(app.conf), name) == default
        return
    with pytest.raises(ConfigurationError, match='namespace="CELERY"') as caught:
        read_settings(app.conf)
    assert f"{prefix}{name.upper()} is set" in str(caught.value)


def test_the_password_of_the_store_is_masked_in_a_report():
    app = Celery("conf", set_as_current=False)
    app.conf.durable_backend_url = "postgresql+psycopg://u:secret@db/shop"
    assert "secret" not in app.conf.humanize(with_defaults=False)


def test_intervals_may_be_timedelta():
    settings = read_settings(
        {
            "durable_turn_timeout": timedelta(minutes=2),
            "durable_worker_lease": timedelta(seconds=30),
        }
    )
    assert (settings.turn_timeout, settings.worker_lease) == (120.0, 30.0)


def test_exception_modules_may_be_any_sequence():
    assert read_settings({"durable_exception_modules": ["shop", "bank"]}).exception_modules == (
        "shop",
        "bank",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("turn_queue", ""),
        ("turn_queue", 5),
        ("turn_timeout", 0),
        ("turn_timeout", -1),
        ("recovery_interval", 0),
        ("heartbeat_interval", 0),
        ("worker_lease", 0),
        ("resend_after", -0.1),
        ("worker_lease", 3),
        ("heartbeat_interval", 100),
        ("turn_timeout", "30"),
        ("turn_timeout", None),
        ("turn_timeout", timedelta(0)),
        ("turn_timeout", timedelta(seconds=-5)),
        ("turn_timeout", float("nan")),
        ("cache_size", "many"),
        ("cache_size", -1),
        ("max_turn_crashes", -1),
        ("store_patience", -1),
        ("timer_horizon", -1),
        ("payload_limit", -1),
        ("inline_turns", "yes"),
        ("inline_turns", 1),
        ("recovery_interval", True),
        ("exception_modules", "shop"),
        ("exception_modules", 3),
        ("serializer", None),
        ("guard", "on"),
        ("guard", None),
        ("serializer", 3),
        ("backend_url", None),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(name, value):
    with pytest.raises(ConfigurationError, match=f"durable_{name}"):
        read_settings({f"durable_{name}": value})


def test_there_are_at_most_32_settings():
    assert len(fields(Settings)) <= 32


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        Settings().cache_size = 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"connect_args": {"nonsense": 1}}, "'nonsense'"),
        ({"connect_args": {"timeout": "soon"}}, "number"),
        ({"connect_args": 5}, "mappings.*int"),
        ({"nonsense": 1}, "'nonsense'"),
        (5, "mappings.*int"),
    ],
)
def test_options_that_do_not_fit_the_database_are_told_of_as_such(new_app, tmp_path, options, says):
    url = f"sqlite:///{tmp_path}/new.db"  # made at the first use
    for use in (lambda durable: durable.migrate(), lambda durable: durable.count()):
        durable = new_app(durable_backend_url=url, durable_backend_options=options).durable
        with pytest.raises(ConfigurationError, match=f"(?s)durable_backend_options.*{says}"):
            use(durable)
