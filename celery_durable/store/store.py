"""The store: its parts, on one way to its database."""

from __future__ import annotations

from ..engine import store_ports as ports
from . import queries
from .activity_limits import ActivityLimitRows
from .answers import Answers
from .archiving import ArchiveRows
from .arrivals import Inbox
from .audit import AuditRows
from .cleanup import Cleanup
from .database import Database
from .migrate import completion_key, store_id
from .outcomes import Outcomes
from .reads import Reads
from .recovery import RecoveryRows
from .runner import Runner
from .runs import Attempts
from .schedules import Schedules
from .slots import AdmissionRows
from .starts import Starts
from .sweeping import LargePayloadRows
from .switches import SwitchRows
from .timing import RESEND_AFTER, TIMER_HORIZON, Timing
from .turns import Turns
from .upkeep import Upkeep
from .workers import Workers

__all__ = ["Store"]


class Store:
    """All parts of a store (``engine.store_ports.Store``).

    Args:
        database: the way to it.
        resend_after: microseconds after which recovery sends a message again.
        timer_horizon: so many microseconds before it is due, a timer's message is sent.
    """

    def __init__(
        self,
        database: Runner,
        *,
        resend_after: int = RESEND_AFTER,
        timer_horizon: int = TIMER_HORIZON,
    ) -> None:
        self.database = database
        self.timing: Timing = Timing(resend_after, timer_horizon)
        self._id: str | None = None
        self._key: str | None = None
        turns, inbox = Turns(database, self.timing), Inbox(database)
        starts = Starts(database, turns)
        # these have a faster form on some databases, see ``postgres``
        self.turns: ports.Turns = turns
        self.starts: ports.Starts = starts
        self.attempts: ports.Attempts = Attempts(database, self.timing)
        self.outcomes: ports.Outcomes = Outcomes(database, self.timing)
        self.inbox: ports.Inbox = inbox
        self.answers: ports.Answers = Answers(database)
        self.reads: ports.Reads = Reads(database)
        self.recovery: ports.RecoveryRows = RecoveryRows(database, self.timing)
        self.workers: ports.Workers = Workers(database)
        self.schedules: ports.Schedules = Schedules(database, starts, inbox)
        self.admission: ports.AdmissionRows = AdmissionRows(database)
        self.limits: ports.ActivityLimitRows = ActivityLimitRows(database, self.timing)
        self.cleanup: ports.Cleanup = Cleanup(database)
        self.switches: ports.SwitchRows = SwitchRows(database, self.timing)
        self.upkeep: ports.Upkeep = Upkeep(database)
        self.audit: ports.AuditRows = AuditRows(database)
        self.archiving: ports.ArchiveRows = ArchiveRows(database)
        self.large_payloads: ports.LargePayloadRows = LargePayloadRows(database)

    @property
    def id(self) -> str:
        """What tells this store from every other."""
        if self._id is None:
            self._id = store_id(self.database)
        return self._id

    def completion_key(self, *, makes: bool = False) -> str | None:
        """Return the secret that tokens of completion are made with.

        None if there is none yet; with ``makes`` it is made then.
        """
        if self._key is None:
            self._key = completion_key(self.database, makes=makes)
        return self._key

    @property
    def location(self) -> str:
        """Where the store is, without the password."""
        return str(self.database)

    @property
    def is_current(self) -> bool:
        """Whether its name still means the same database."""
        return self.database.is_current

    def now(self) -> int:
        """Return the store's clock, microseconds since the epoch."""
        return queries.now(self.database)

    def dispose(self) -> None:
        """Close its connections."""
        self.database.dispose()

    def through(self, database: Runner) -> Store:
        """Return this store as it is reached through other connections to its database, every
        transaction in its plain form.
        """
        database.vault = self.database.vault
        return Store(
            database, resend_after=self.timing.resend_after, timer_horizon=self.timing.timer_horizon
        )

    def database_without_check(self) -> Database:
        """Return the database for work on the schema itself, which does not need it to be there."""
        url = self.database.url.render_as_string(hide_password=False)
        return Database(url, self.database.options)
