"""What an orchestrator cannot use of its event loop: all that reaches outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .._errors import ForbiddenOperation

__all__ = ["RefusingLoop", "forbidden"]

#: The methods of a loop that reach outside, or that only the code which runs a loop calls.
_OUTSIDE = (
    "run_in_executor",
    "set_default_executor",
    "getaddrinfo",
    "getnameinfo",
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "create_datagram_endpoint",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "start_tls",
    "sendfile",
    "sock_sendfile",
    "subprocess_exec",
    "subprocess_shell",
    "add_reader",
    "remove_reader",
    "add_writer",
    "remove_writer",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "add_signal_handler",
    "remove_signal_handler",
    "run_forever",
    "run_until_complete",
    "stop",
    "close",
    "set_task_factory",
    "set_exception_handler",
    "shutdown_asyncgens",
    "shutdown_default_executor",
)


def forbidden(operation: str, what: str | None = None) -> ForbiddenOperation:
    """Return the refusal of what cannot be replayed.

    ``what`` says it where it is no function of the loop.
    """
    used = f"the event loop's {operation}()" if what is None else what
    return ForbiddenOperation(
        f"an orchestrator cannot use {used}: real I/O, threads and subprocesses cannot be replayed;"
        " put it in an activity (a Celery task) and await ctx.call(...)",
        operation=operation,
    )


class RefusingLoop(asyncio.AbstractEventLoop):
    """A loop that refuses what reaches outside, and has nothing to set."""

    #: Whether the code is being dropped: what it asks for then never comes.
    is_dying = False

    def get_debug(self) -> bool:
        """Return False: debugging would change the order of callbacks."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Ignore it."""

    def get_task_factory(self) -> None:
        """Return None: all tasks are of one type."""
        return None

    def get_exception_handler(self) -> None:
        """Return None: problems are logged by the engine."""
        return None


def _refuse(name: str) -> Callable[..., asyncio.Future[Any]]:
    def refusing(self: RefusingLoop, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        if self.is_dying:
            return self.create_future()
        raise forbidden(name)

    return refusing


for _name in _OUTSIDE:
    setattr(RefusingLoop, _name, _refuse(_name))
