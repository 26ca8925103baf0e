"""What durabletask's blocking client waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ..app.durable import Durable
from ..core.flags import check_flags
from ..core.status import RuntimeStatus
from ..errors import InstanceNotFound
from .states import OrchestrationState

__all__ = ["WaitingMethods"]


class WaitingMethods:
    """The client's methods that wait for an orchestration."""

    durable: Durable

    def get_orchestration_state(
        self, instance_id: str, *, fetch_payloads: bool = True
    ) -> OrchestrationState | None:
        """Return how an orchestration is; see the client."""
        raise NotImplementedError

    def wait_for_orchestration_start(
        self, instance_id: str, *, fetch_payloads: bool = False, timeout: float = 60
    ) -> OrchestrationState | None:
        """Wait until an orchestration has begun, for so many seconds, 0 for ever.

        None if there is none.

        Raises:
            TimeoutError: it has not in time.
        """
        check_flags(fetch_payloads=fetch_payloads)
        for pause in self.pauses(
            instance_id, timeout, lambda status: status is not RuntimeStatus.PENDING
        ):
            time.sleep(pause)
        return self.get_orchestration_state(instance_id, fetch_payloads=fetch_payloads)

    def wait_for_orchestration_completion(
        self, instance_id: str, *, fetch_payloads: bool = True, timeout: float = 60
    ) -> OrchestrationState | None:
        """Wait until an orchestration is over, for so many seconds, 0 for ever.

        None if there is none.

        Raises:
            TimeoutError: it is not in time.
        """
        check_flags(fetch_payloads=fetch_payloads)
        for pause in self.pauses(instance_id, timeout, lambda status: status.is_terminal):
            time.sleep(pause)
        return self.get_orchestration_state(instance_id, fetch_payloads=fetch_payloads)

    def pauses(
        self, instance_id: str, timeout: float, is_reached: Callable[[RuntimeStatus], bool]
    ) -> Iterator[float]:
        """Give the seconds to wait before the next look, until a status is reached or there is no
        such orchestration.

        Raises:
            TimeoutError: it is not in time.
        """
        end = time.monotonic() + timeout if timeout else None
        pause = 0.05
        while True:
            try:
                status = self.durable.get(instance_id).runtime_status
            except InstanceNotFound:
                return
            if is_reached(status):
                return
            left = pause if end is None else end - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"orchestration {instance_id!r} is {status} after {timeout} seconds"
                )
            yield min(pause, left)
            pause = min(pause * 1.2, 1.0)
