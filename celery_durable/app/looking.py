"""Looking on ``Durable``: one orchestration, pages of them, entities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Unpack

from ..core.flags import check_flags
from ..handles.aio import twin

if TYPE_CHECKING:
    from celery import Celery

    from ..handles.entity import EntityPage
    from ..handles.orchestration import Orchestration
    from ..worker.runtime import Runtime
    from .typed import Filters

__all__ = ["Looking", "Page"]


@dataclass(frozen=True)
class Page:
    """One page of ``durable.find``.

    ``next_cursor`` is None on the last, ``previous_cursor`` on the first.
    """

    items: list[Orchestration]
    next_cursor: str | None
    previous_cursor: str | None = None


class Looking:
    """Finds orchestrations and entities."""

    if TYPE_CHECKING:

        @property
        def app(self) -> Celery:
            """The Celery app."""

        @property
        def runtime(self) -> Runtime:
            """The engine of this process."""

    def get(self, instance_id: str) -> Orchestration:
        """Return the handle of an orchestration.

        Raises:
            InstanceNotFound: there is none.

        Example:
            >>> durable.get("order-1").runtime_status
        """
        from ..handles.orchestration import Orchestration

        return Orchestration(
            instance_id, app=self.app, record=self.runtime.client.fetch(instance_id)
        )

    def find(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        with_payloads: bool = False,
        **filters: Unpack[Filters],
    ) -> Page:
        """Return a page of orchestrations, newest first.

        Entities only if ``name`` or ``id_prefix`` asks for them.

        Args:
            limit: at most this many.
            cursor: ``next_cursor`` or ``previous_cursor`` of the page at hand.
            with_payloads: read inputs and outputs too.
            **filters: ``status`` (one or a list), ``name``, ``version``, ``tags`` (all must match),
                ``id_prefix``, ``created_after`` and ``created_before`` (aware), ``parent_id``,
                ``roots`` (True: no sub-orchestrations, False: only these), ``stuck`` (True: those
                that should move and do not, because no worker has their code, takes their turn, or
                runs an activity).

        Example:
            >>> page = durable.find(status="FAILED", tags={"customer": "ada"}, limit=20)
            >>> for run in page.items:
            ...     print(run.id, run.failure)
        """
        check_flags(with_payloads=with_payloads)
        from ..engine.listing import check_page_size
        from ..handles.orchestration import Orchestration
        from .filters import filters_of

        check_page_size(limit)
        records, *cursors = self.runtime.store.reads.find_page(
            filters_of(filters), limit, cursor, with_payloads=with_payloads
        )
        return Page(
            [Orchestration(record.id, app=self.app, record=record) for record in records], *cursors
        )

    def count(self, **filters: Unpack[Filters]) -> int:
        """Return how many orchestrations match; the same filters as ``find``.

        The number is exact. Counting those that have completed, or all, takes as long as there are
        many of them.

        Example:
            >>> waiting = durable.count(status=["PENDING", "RUNNING"])
        """
        from .filters import filters_of

        return int(self.runtime.store.reads.count(filters_of(filters)))

    def entities(
        self, cls: type | str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> EntityPage:
        """Return a page of entities, those made last first.

        Args:
            cls: only those of this class, or registered name.
            limit: at most this many, up to 1000.
            cursor: ``next_cursor`` or ``previous_cursor`` of the page at hand.

        Example:
            >>> for each in durable.entities(Counter).items:
            ...     print(each.key, each.state)
        """
        from ..engine.listing import check_page_size
        from ..handles.entity import entity_page

        check_page_size(limit)
        return entity_page(self.runtime, _entity_name(cls), limit, cursor)

    def clean_entities(self, cls: type | str | None = None) -> int:
        """Delete the entities that are empty, of one class or of all, and return how many there
        were.

        Empty is one whose attributes are all what the class begins with, not locked,
        and that no message waits for, also not a delayed one. The next message makes a new one.

        Example:
            >>> durable.clean_entities(Counter)
        """
        from ..handles.entity import entities_of

        return entities_of(self.runtime).clean(_entity_name(cls))

    # -- twins for code that runs on an event loop -------------------------------------------------

    aget: Final = twin(get)
    afind: Final = twin(find)
    acount: Final = twin(count)
    aentities: Final = twin(entities)
    aclean_entities: Final = twin(clean_entities)


def _entity_name(cls: type | str | None) -> str | None:
    from ..core.entity import declaration_of

    return cls if cls is None or isinstance(cls, str) else declaration_of(cls).name
