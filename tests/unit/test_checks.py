"""What is found out about a configuration without a look at any server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_durable import ConfigurationError
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


@pytest.mark.parametrize("setting", ["durable_serializer", "task_serializer", "result_serializer"])
def test_a_serializer_that_there_is_not_is_an_error(
    new_app: Callable[..., Any], setting: str
) -> None:
    found = [each for each in findings(new_app(**{setting: "jsno"}).durable) if each.is_error]
    assert [each.id for each in found] == ["celery_durable.E005"]
    assert found[0].message.startswith(f"{setting} is 'jsno', by which nothing can be written")
    assert "Is 'json' meant?" in found[0].message


def test_a_serializer_of_a_task_that_there_is_not_is_an_error(new_app: Callable[..., Any]) -> None:
    app = new_app(task_serializer="json")

    def task() -> None: ...

    app.task(name="checked.task", serializer="jsno")(task)

    @app.durable.orchestrator(name="checked.flow", serializer="mspack")
    async def flow(ctx: Any) -> None: ...

    app.task(name="checked.yes", serializer="pickle")(task)
    found = [each.message for each in findings(app.durable) if each.is_error]
    assert [text.partition(":")[0] for text in found] == ["task checked.flow", "task checked.task"]


def test_no_engine_is_made_that_could_write_nothing(new_app: Callable[..., Any]) -> None:
    app = new_app(durable_serializer="jsno")
    with pytest.raises(ConfigurationError, match="durable_serializer: .*Is 'json' meant"):
        _ = app.durable.runtime
