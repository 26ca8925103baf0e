"""The archive under the kit: whatever dies, each is archived before it is deleted, and deleted
once.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_durable import Durable, InstanceNotFound
from celery_durable.archive import read_archived
from celery_durable.testing import DurableEnv, durable_environment, replay_histories

archived: list[str] = []


def shelve(document: str, key: str) -> None:
    archived.append(key)


app = Celery("archived", broker="memory://", set_as_current=False)
app.conf.durable_retention = timedelta(days=1)
app.conf.durable_archive = shelve
durable = Durable(app)


@app.task(name="archived.charge")
def charge(order: int) -> int:
    return order + 1


@durable.orchestrator(name="archived.sale")
async def sale(ctx: Any, order: int) -> Any:
    return await ctx.call(charge.s(order))


def test_a_crash_anywhere_loses_nothing_unarchived() -> None:
    counts: set[int] = set()

    def scenario(env: DurableEnv) -> object:
        archived.clear()
        assert env.run(sale.s(1), instance_id="a") == 2
        env.advance(days=1, hours=1)
        env.advance(hours=1)  # for what a crash has left claimed
        counts.add(len(archived))
        assert len(set(archived)) == 1
        with pytest.raises(InstanceNotFound):
            durable.get("a")
        return "deleted"

    with durable_environment(durable) as env:
        assert env.crash_everywhere(scenario) > 10
    assert counts == {1, 2}


def test_a_folder_is_an_archive_whose_files_replay(tmp_path: Path) -> None:
    own = Celery("own", broker="memory://", set_as_current=False)
    own.conf.durable_retention = 60
    own.conf.durable_archive = str(tmp_path / "shelf")
    own_durable = Durable(own)

    @own_durable.orchestrator(name="own.sale")
    async def own_sale(ctx: Any, n: int) -> int:
        await ctx.sleep(1)
        return n

    with durable_environment(own_durable) as env:
        env.run(own_sale.s(1), instance_id="../o 1")
        env.advance(minutes=2)
        (file,) = (tmp_path / "shelf").rglob("*.json.gz")
        assert file.name.startswith("_o_1-")
        assert own_durable.verify([read_archived(file), file.read_bytes()]).checked == 2
        assert own_durable.replay(read_archived(file)) > 2
        assert replay_histories(own_durable, file.parent) == 1
        file.write_bytes(file.read_bytes()[:40])
        with pytest.raises(AssertionError, match="1 of 1 histories"):
            replay_histories(own_durable, file.parent)
