"""The engine of one process: its parts, wired together. The layer above makes it, once."""

from __future__ import annotations

from dataclasses import dataclass, field

from .admission import AdmissionController
from .breakers import Breakers
from .decide import Decider
from .dispatch import Dispatcher
from .inline_turns import InlineTurns
from .lifecycle import Lifecycle
from .outcome import OutcomeDesk
from .parts import Parts
from .pausing import Pausing
from .records import Outcome
from .replacing import Replacing
from .replay import Replayer
from .start import Starter
from .turn import TurnRunner, TurnState

__all__ = ["Engine"]


@dataclass(slots=True)
class Engine(Parts):
    """What moves instances in this process; all effects go through ``store`` and ``publisher``."""

    #: Who may begin, and what is kept after the end.
    admission: AdmissionController = field(init=False)
    #: Makes machines and replays history through them.
    replayer: Replayer = field(init=False)
    #: Sends what commits have decided.
    dispatcher: Dispatcher = field(init=False)
    #: Moves that no orchestrator decides: suspend, end, reopen.
    lifecycle: Lifecycle = field(init=False)
    #: Turns in one commit with a start or an outcome.
    inline: InlineTurns = field(init=False)
    #: What pauses keep from beginning.
    pausing: Pausing = field(init=False)
    breakers: Breakers = field(init=False)
    #: Turns by message.
    turns: TurnRunner = field(init=False)
    #: How instances are created.
    starter: Starter = field(init=False)
    #: How outcomes come in.
    outcomes: OutcomeDesk = field(init=False)

    def __post_init__(self) -> None:
        Parts.__post_init__(self)
        self.admission = AdmissionController(self)
        self.replayer = Replayer(self)
        self.dispatcher = Dispatcher(self, self.admission, self._suspend_moving, self._accept)
        self.lifecycle = Lifecycle(self, self.replayer, self.admission, self.dispatcher)
        decider = Decider(self, self.replayer, self.admission)
        self.inline = InlineTurns(self, decider, self.dispatcher, self.run)
        self.pausing = Pausing(self)
        self.breakers = Breakers(self)
        self.turns = TurnRunner(self, self.lifecycle, decider, self.inline, self.pausing)
        self.outcomes = OutcomeDesk(self, self.inline, self.dispatcher)
        replacing = Replacing(self, self.lifecycle, self.dispatcher)
        self.starter = Starter(self, self.admission, self.inline, replacing)

    def _suspend_moving(self, instance_id: str, error: Exception) -> None:
        self.lifecycle.suspend_moving(instance_id, error)

    def _accept(self, outcome: Outcome) -> None:
        self.outcomes.accept(outcome)

    def run(self, instance_id: str, *, sends: int = 0) -> TurnState:
        """Take turns of an instance; see ``TurnRunner.run``."""
        return self.turns.run(instance_id, sends=sends)
