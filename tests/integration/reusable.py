"""What a reusable app brings along: exceptions, shared tasks and shared orchestrators.

It is imported once per process.
"""

from __future__ import annotations

from celery import shared_task

from celery_durable import orchestrator


class CardDeclined(Exception):
    """A failure with facts of its own."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class OutOfStock(Exception):
    """Another one."""


@shared_task
def negate(x):
    return -x


@orchestrator
async def negate_durably(ctx, x):
    return await ctx.call(negate.s(x))
