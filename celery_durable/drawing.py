"""Pictures of timelines; see ``inspection.drawing``."""

from .inspection.drawing import Links, mermaid, page, stylesheet, svg, table

__all__ = ["Links", "mermaid", "page", "stylesheet", "svg", "table"]
