"""``Durable(app)``: the front door.

Here it is installed, and has its engine; all else it does is in bases of its own, one for each
subject: ``declaring``, ``starting``, ``looking``, ``steering`` and so on. Its hooks into Celery are
in ``install``, its engine is put together in ``compose``.

The bases import what they need of the engine when they are called: a process that imports
``Durable`` brings none of it, and no part of Celery that it does not use itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._errors import ConfigurationError
from ..forks import renew_in_children
from .auditing import Auditing
from .code_checks import CodeChecks
from .completing import Completing
from .declaring import Declaring
from .limiting import Limiting
from .looking import Looking, Page
from .scheduling import Scheduling
from .starting import Starting
from .starting_many import StartingMany
from .steering import Steering
from .switching import Switching

if TYPE_CHECKING:
    from celery import Celery

    from ..engine.registry import Registry
    from ..settings import Settings
    from ..store import Store
    from ..worker.publisher import CeleryPublisher
    from ..worker.runtime import Runtime

__all__ = ["Durable", "Page", "install_again"]


class Durable(
    Declaring,
    Starting,
    Looking,
    StartingMany,
    Scheduling,
    Steering,
    Completing,
    Switching,
    Limiting,
    Auditing,
    CodeChecks,
):
    """Durable orchestrations for one Celery app.

    Args:
        app: the app; or call ``init_app`` later.
    """

    def __init__(self, app: Celery | None = None) -> None:
        super().__init__()
        self._runtime: Runtime | None = None
        self._lock = threading.RLock()
        renew_in_children(self, Durable._renew_lock)
        if app is not None:
            self.init_app(app)

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    # -- installing --------------------------------------------------------------------------------

    @property
    def app(self) -> Celery:
        """The Celery app.

        Raises:
            ConfigurationError: there is none yet.
        """
        if self._app is None:
            raise ConfigurationError("this Durable has no app yet: call durable.init_app(app)")
        return self._app

    def init_app(self, app: Celery) -> None:
        """Install into an app: its tasks become activities, its workers recover.

        Example:
            >>> durable = Durable()
            >>> app = Celery("shop")
            >>> durable.init_app(app)
        """
        from celery.app import base as celery_base

        from ..core.plain_task import CARRIER, refuse_start
        from ..handles.canvas import ORCHESTRATOR, run_canvas
        from .install import install

        if getattr(app, "durable", None) not in (None, self):
            raise ConfigurationError(f"another Durable is installed in {app!r} already")
        self._app = app
        app.durable = self
        install(app, self._watch_tasks)
        pending, self._pending = self._pending, []
        # each app has one, of its own class
        self.orchestrator(run_canvas, name=ORCHESTRATOR, shared=celery_base.USING_EXECV)
        self.orchestrator(refuse_start, name=CARRIER, shared=celery_base.USING_EXECV)
        for function, options in pending:
            self.orchestrator(function, **options)

    @property
    def registry(self) -> Registry:
        """The orchestrators that this process knows."""
        return self.declarations.registry

    def _watch_tasks(self, sender: Celery | None = None, **_: Any) -> None:
        self.declarations.watch(self.app)

    @property
    def settings(self) -> Settings:
        """The settings, read from ``app.conf`` when the engine is first used."""
        return self.runtime.settings

    @property
    def runtime(self) -> Runtime:
        """The engine of this process, made at first use, and once more if its store's name means
        another database now.
        """
        runtime = self._runtime
        if runtime is None or not runtime.is_current:
            with self._lock:
                runtime = self._runtime
                if runtime is None or not runtime.is_current:
                    if runtime is not None:
                        runtime.live.clear()
                        runtime.store.dispose()
                    self.app.finalize()
                    from .compose import compose

                    runtime = self._runtime = compose(
                        self.app,
                        self.registry,
                        propagators=self.propagators,
                        converters=self.converters,
                    )
        return runtime

    @contextmanager
    def running_on(
        self, store: Store, publisher: type[CeleryPublisher] | None = None
    ) -> Iterator[Runtime]:
        """Let this process's engine work on another store for a while, and send by another
        publisher: for tests.

        Example:
            >>> with durable.running_on(store):
            ...     durable.start(fulfil.s("42"))
        """
        from .compose import compose

        self.app.finalize()
        runtime = compose(
            self.app, self.registry, store, publisher, self.propagators, self.converters
        )
        before = self._runtime
        self._runtime = runtime
        try:
            yield runtime
        finally:
            self._runtime = before
            runtime.live.clear()

    def migrate(self) -> None:
        """Make the store's tables, or bring them to this release.

        Example:
            >>> durable.migrate()
        """
        from ..store import sql_store
        from ..store.migrate import migrate

        migrate(sql_store(self.runtime.store).database_without_check())


def install_again(app: Celery) -> None:
    """Install into a copy of an app, as a process of a worker's pool has it that was spawned and
    not forked.

    Celery calls this as a fix-up, in the middle of the copy's making; so it is done at the end of
    that.
    """
    on_init = app.on_init

    def install() -> None:
        on_init()
        if getattr(app, "durable", None) is None:
            Durable(app)

    app.on_init = install
