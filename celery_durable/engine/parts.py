"""What every part of the engine works with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ..core.guard import running_orchestrator
from ..core.ports import Codec
from ..settings import Settings
from .activity_limits import ActivityLimits
from .cache import LiveExecutions
from .clock import StoreClock
from .observers import Notifier
from .ports import Publisher
from .propagation import Propagators
from .registry import Registry
from .store_ports import Store
from .switches import SwitchBoard
from .tasks import NoTasks, Tasks
from .version_choice import VersionChoice
from .watchdog import Watchdog

__all__ = ["Parts"]


@dataclass(slots=True)
class Parts:
    """The things that are made once in a process; nothing here knows what is done with them."""

    #: Where everything is kept; all that counts is in there.
    store: Store
    #: The orchestrators whose code this process has.
    registry: Registry
    #: How values become text.
    codec: Codec
    settings: Settings
    #: The only way out to Celery.
    publisher: Publisher
    #: Machines that need no replay, because they stayed in memory.
    live: LiveExecutions
    #: What travels with an orchestration, beside headers.
    propagators: Propagators = field(default_factory=Propagators)
    #: The Celery tasks whose code this process has.
    tasks: Tasks = field(default_factory=NoTasks)
    #: The store's clock, as far as it is known without asking.
    clock: StoreClock = field(init=False)
    #: What operators have set for all workers, as this process knows it.
    switches: SwitchBoard = field(init=False)
    #: What attempts of activities need before they are sent.
    limits: ActivityLimits = field(init=False)
    #: Which version of its code a start gets.
    versions: VersionChoice = field(init=False)
    #: Interrupts code that does not come to an end.
    watchdog: Watchdog = field(init=False)
    #: What an orchestrator's code is run in.
    running: Callable[[str], AbstractContextManager[None]] = field(init=False)
    #: Who is told of each commit.
    notifier: Notifier = field(init=False)

    def __post_init__(self) -> None:
        self.clock = StoreClock(self.store.now)
        self.switches = SwitchBoard(self.store.switches, self.settings.heartbeat_interval)
        self.limits = ActivityLimits(self.store, self.switches, self.tasks)
        self.versions = VersionChoice(self.registry, self.switches, self.codec)
        self.watchdog = Watchdog(self.settings.turn_timeout)
        self.notifier = Notifier()
        self.running = _running(self.settings.guard)


def _running(guard: str) -> Callable[[str], AbstractContextManager[None]]:
    if guard == "off":
        return running_orchestrator
    from ..guarding import guarded

    return guarded(guard)
