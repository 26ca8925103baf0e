"""The handle of an orchestration, under the name by which pickles know it."""

from .handles.orchestration import Orchestration

__all__ = ["Orchestration"]
