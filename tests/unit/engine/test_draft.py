"""A commit in the making: what travels with all that it sends."""

from __future__ import annotations

from typing import Any

from celery_durable.core.canvas_options import CanvasOptions
from celery_durable.engine.draft import new_execution_id

from .compilers.drafts import CODEC, new_draft


def options(**kept: Any) -> str:
    text = CODEC.encode(CanvasOptions(kept).kept)
    assert isinstance(text, str)
    return text


def test_it_is_of_the_execution_that_was_read() -> None:
    assert new_draft(execution="e7").execution == "e7"


def test_the_context_of_the_start_travels() -> None:
    context = {"headers": {"x": "1"}, "values": {"language": "de"}}
    assert new_draft(canvas=options(context=context)).context == context
    assert new_draft(canvas=options(options={"priority": 3})).context == {}
    assert new_draft(canvas=None).context == {}


def test_the_stamps_of_the_start_travel_and_nothing_else_of_its_options() -> None:
    stamped = {"stamped_headers": ["order", "gone"], "order": ["7"], "priority": 3}
    assert new_draft(canvas=options(options=stamped)).stamps == {
        "stamped_headers": ["order"],
        "order": ["7"],
    }
    assert new_draft(canvas=options(options={"priority": 3})).stamps == {}
    assert new_draft(canvas=None).stamps == {}


def test_ids_of_executions_are_random_and_as_long_as_the_store_keeps() -> None:
    ids = {new_execution_id() for _ in range(200)}
    assert len(ids) == 200
    assert {len(each) for each in ids} == {20} and all(int(each, 16) >= 0 for each in ids)
