"""The plug-in of pytest: the fixtures ``durable_env`` and ``durable_app``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..app.durable import Durable
    from .env import DurableEnv

__all__ = ["durable_app", "durable_env"]


@pytest.fixture
def durable_app() -> Any:
    """The ``Durable`` whose orchestrations are tested: override it to name yours.

    The current app's if it is not overridden.
    """
    from .environments import current_durable

    return current_durable()


@pytest.fixture
def durable_env(request: pytest.FixtureRequest, durable_app: Durable) -> Iterator[DurableEnv]:
    """A ``DurableEnv`` of this test's own.

    With a store on a Django database it is on the test's own connection: ``db`` of pytest-django,
    or ``transactional_db`` if the test asks for that, is set up before it.
    """
    from .environments import durable_environment

    url = str(durable_app.app.conf.get("durable_backend_url", ""))
    if url.startswith("django://"):
        wanted = "transactional_db" if "transactional_db" in request.fixturenames else "db"
        request.getfixturevalue(wanted)
    with durable_environment(durable_app) as env:
        yield env
