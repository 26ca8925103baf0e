"""Pictures of timelines; see ``inspection.drawing``."""

from .inspection.drawing import mermaid, page, stylesheet, svg, table

__all__ = ["mermaid", "page", "stylesheet", "svg", "table"]
