"""What is seen of code that has stopped in the middle of a replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.history import EventKind
from ..core.kinds import State
from ..core.stepping import SteppedMachine
from .frames import StoppedFrame, StoppedTask, raised_frames, waiting_frames

__all__ = ["StoppedCode"]


class StoppedCode:
    """The tasks of the code, what it has come to, and what it waits for."""

    def __init__(self) -> None:
        self._machine: SteppedMachine | None = None
        #: The tasks as they were read at this place; None until then.
        self._tasks: list[StoppedTask] | None = None

    @property
    def tasks(self) -> list[StoppedTask]:
        """The asyncio tasks of the code that are not done, in the order of their creation; of an
        orchestrator that has raised, the frames that the exception passed.
        """
        if self._tasks is None:
            self._tasks = [] if self._machine is None else _tasks_of(self._machine)
        return self._tasks

    @property
    def frames(self) -> list[StoppedFrame]:
        """The frames of all tasks, the outermost of each first."""
        return [frame for task in self.tasks for frame in task.frames]

    @property
    def error(self) -> BaseException | None:
        """The exception that the orchestrator has raised; None if it has not."""
        main = None if self._machine is None else self._machine.main
        if main is None or not main.done() or main.cancelled():
            return None
        return main.exception()

    @property
    def ended_as(self) -> str | None:
        """The kind of event by which the code has ended, as "ExecutionCompleted"; None if it has
        not.
        """
        final = None if self._machine is None else self._machine.final
        return None if final is None else str(final.confirmed_by)

    @property
    def result(self) -> Any:
        """What the orchestrator has returned; None if it has not."""
        main = None if self._machine is None else self._machine.main
        is_over = self.ended_as == EventKind.EXECUTION_COMPLETED and main is not None
        return main.result() if is_over and main is not None else None

    @property
    def waits_for(self) -> list[str]:
        """What is open at this place, in words."""
        machine = self._machine
        return [] if machine is None or machine.final is not None else machine.waits_for()

    @property
    def state(self) -> Mapping[str, Any]:
        """A copy of what the code has put into ``ctx.state``."""
        return {} if self._machine is None else dict(vars(self._machine.of(State).namespace))


def _tasks_of(machine: SteppedMachine) -> list[StoppedTask]:
    found = [
        StoppedTask(task.get_name(), waiting_frames(task.get_name(), task.get_coro()))
        for task in machine.loop.tasks
    ]
    main = machine.main
    if main is not None and main.done() and not main.cancelled() and main.exception() is not None:
        error = main.exception()
        found.insert(0, StoppedTask("main", raised_frames("main", error) if error else []))
    return [task for task in found if task.frames or task.name == "main"]
