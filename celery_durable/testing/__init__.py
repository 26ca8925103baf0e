"""Tests of orchestrations: the real engine and the real activities, in the test's own thread, by a
clock that jumps, without broker, worker or server.

``durable_env`` is a fixture of pytest's; ``durable_environment`` is the same for any other way to
test.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calls import Call
    from .context import FakeContext, fake_durable_context
    from .env import DurableEnv
    from .environments import durable_environment
    from .histories import replay_histories

__all__ = [
    "Call",
    "DurableEnv",
    "FakeContext",
    "durable_environment",
    "fake_durable_context",
    "replay_histories",
]

# pytest imports this package wherever it is installed: what is not asked for costs nothing
_HOMES = {
    "Call": "calls",
    "DurableEnv": "env",
    "FakeContext": "context",
    "durable_environment": "environments",
    "fake_durable_context": "context",
    "replay_histories": "histories",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
