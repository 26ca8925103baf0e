"""Internal. Entities: their class, one of them between two messages, and what runs it.

The caller's side is in ``references``.
"""

from __future__ import annotations

from ..entity_names import (
    LONGEST_NAME,
    MESSAGE,
    ORCHESTRATORS,
    REPLY,
    RESERVED,
    entity_id,
    orchestrator_of,
)
from .declaration import Declaration, declaration_of, declare, id_of
from .messages import Operation, Outgoing, current_operation
from .run import run_by
from .state import Entity

__all__ = [
    "LONGEST_NAME",
    "MESSAGE",
    "ORCHESTRATORS",
    "REPLY",
    "RESERVED",
    "Declaration",
    "Entity",
    "Operation",
    "Outgoing",
    "current_operation",
    "declaration_of",
    "declare",
    "entity_id",
    "id_of",
    "orchestrator_of",
    "run_by",
]
