from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from celery_durable import durable_context
from celery_durable.testing import DurableEnv, fake_durable_context, replay_histories
from tests.testing import adoption as shop


@pytest.fixture
def durable_app():
    return shop.durable


def resize(path):
    context = durable_context()
    begin = context.details["page"] if context.details else 0
    for page in range(begin, 3):
        if context.cancelled:
            return "cancelled"
        context.heartbeat({"page": page})
    return context.attempt


def test_a_body_alone() -> None:
    with fake_durable_context(attempt=2, details={"page": 1}) as context:
        assert resize("a") == 2
    assert context.heartbeats == [{"page": 1}, {"page": 2}]
    assert context.deferred == []
    assert durable_context() is None
    with fake_durable_context(cancelled=True):
        assert resize("a") == "cancelled"


def test_facts_of_a_context() -> None:
    deadline = datetime(2030, 1, 1, tzinfo=UTC)
    facts = {"instance_id": "i", "idempotency_key": "k", "deadline": deadline}
    with fake_durable_context(**facts, context={"tenant": "acme"}):
        found = durable_context()
        assert found.context == {"tenant": "acme"}
        assert (found.instance_id, found.idempotency_key, found.deadline) == ("i", "k", deadline)
    with pytest.raises(TypeError, match="knows no colour"), fake_durable_context(colour=1):
        pass


def test_a_folder_of_histories(durable_env: DurableEnv, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nothing was replayed"):
        replay_histories(shop.durable, tmp_path)
    for name in ("a", "b"):
        run = durable_env.start(shop.all_kinds.s(name))
        durable_env.advance(hours=1)
        (tmp_path / f"{name}.json").write_text(run.export_history())
    assert replay_histories(shop.durable, tmp_path) == 2
    other = durable_env.start(shop.fulfil.s("1"))
    text = other.export_history().replace(shop.charge.name, "other.task")
    (tmp_path / "changed.json").write_text(text)
    (tmp_path / "damaged.json").write_text("{")
    with pytest.raises(AssertionError) as caught:
        replay_histories(shop.durable, str(tmp_path))
    said = str(caught.value)
    assert "2 of 4 histories" in said
    assert "changed.json" in said and "adoption.py" in said and "damaged.json" in said
    assert "a.json" not in said
