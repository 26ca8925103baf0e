"""Internal: what an application calls; ``Durable`` and its decorators."""

from .durable import Durable, Page, install_again
from .shared import entity, orchestrator

__all__ = ["Durable", "Page", "entity", "install_again", "orchestrator"]
