"""``app = df.DFApp(...)``, as Azure's own programs call it, beside the app that Celery looks for."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.app.utils import find_app

from celery_durable import Durable
from celery_durable import azure as df

celery_app = Celery("shop", broker="memory://", set_as_current=False)
app = df.DFApp(Durable(celery_app))


def test_celery_takes_its_own_app_where_the_page_names_it():
    assert find_app(f"{__name__}:celery_app") is celery_app


def test_a_command_that_takes_the_app_of_azure_for_celerys_is_told_how_to_name_the_other():
    found = find_app(__name__)
    assert found is app
    with pytest.raises(AttributeError, match="celery -A MODULE:NAME") as raised:
        found.user_options  # noqa: B018  the first that any command of Celery asks for
    assert "not Celery's app" in str(raised.value)


def test_what_azure_has_and_this_has_not_is_told_as_before():
    with pytest.raises(df.NotSupported, match="timer_trigger"):
        app.timer_trigger


def test_what_neither_has_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing_like_this'$"):
        app.nothing_like_this
    assert not hasattr(app, "user_options")
