"""Internal: what an application calls; ``Durable`` and its decorators."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .durable import Durable, Page, install_again
    from .shared import entity, orchestrator

__all__ = ["Durable", "Page", "entity", "install_again", "orchestrator"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "shared" if name in ("entity", "orchestrator") else "durable"
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value
