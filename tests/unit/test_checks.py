"""What is found out about a configuration without a look at any server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_durable.checks import findings


def about_names(durable: Any) -> list[tuple[str, str]]:
    return [
        (found.message, found.hint)
        for found in findings(durable)
        if found.id == "celery_durable.W008"
    ]


def test_a_setting_that_is_misspelt_is_told_with_what_may_be_meant(
    new_app: Callable[..., Any],
) -> None:
    app = new_app(durable_worker_leese=20, durable_worker_lease=20)
    assert about_names(app.durable) == [
        (
            "there is no setting durable_worker_leese: it is ignored",
            "Is durable_worker_lease meant?",
        )
    ]
    assert (
        about_names(new_app(durable_worker_lease=20, durable_zzz=1).durable)[0][1]
        == "Take it away."
    )


def test_settings_that_there_are_and_those_of_others_are_not_told(
    new_app: Callable[..., Any],
) -> None:
    assert about_names(new_app(durable_retention=60, durably=1).durable) == []
