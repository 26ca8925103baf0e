"""The orchestrator that runs an entity: each execution ends with its turn.

What the entity knows is the input of the next execution.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ..._errors import DurableError
from ..entity_names import MESSAGE
from ..kinds import Aside, KindsContext, Lifecycle, SendEvent
from ..kinds.kind import host_of
from ..names import parts_of_id
from .declaration import Declaration
from .state import Entity

__all__ = ["run_by"]

log: logging.Logger = logging.getLogger("celery_durable.entity")


def run_by(declaration: Declaration) -> Callable[..., Any]:
    """Return the orchestrator of the entities of a class."""

    async def run_entity(ctx: KindsContext, saved: Any = None) -> None:
        host = host_of(ctx)
        info = host.info
        parts = parts_of_id(info.instance_id)
        if parts is None or parts[0] != declaration.name:
            raise DurableError(
                f"{info.name} is not to be started: the first message of an entity creates it, as"
                f" by durable.entity({declaration.name}, key).signal.operation()",
                instance_id=info.instance_id,
            )
        entity: Entity | None = None

        def rest() -> tuple[Any, Aside | None]:
            if entity is None:
                return saved, None
            if entity.state is not None:
                host.set_status(entity.state_value, is_checked=True)
            aside = entity.aside()
            return entity.saved(), aside

        host.of(Lifecycle).rest = rest
        entity = Entity(declaration, host.codec, info.instance_id, saved, info.restored)
        while True:
            try:
                message = await ctx.wait_event(MESSAGE)
            except asyncio.CancelledError:
                log.warning(
                    "entity %r cannot be canceled; terminate() deletes it", info.instance_id
                )
                continue
            for out in entity.take(message, host.now):
                command = host.next_number()
                host.ask(
                    SendEvent(
                        command, out.to, out.name, out.payload, due=out.due, creates=out.creates
                    )
                )

    run_entity.durable_class = declaration.cls  # type: ignore[attr-defined]
    return run_entity
