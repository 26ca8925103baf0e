"""durabletask's client, blocking."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from ..app.durable import Durable
from ..core.flags import check_flags
from ..core.history import Event
from ..core.status import RuntimeStatus
from ..errors import InstanceNotFound, InvalidState
from ..handles.orchestration import Orchestration
from .blocking_entities import EntityMethods
from .blocking_waits import WaitingMethods
from .contexts import name_of
from .entity_names import aware
from .missing import refuse_options
from .running import Unconnected
from .states import (
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
    bounds_of,
    filters_of,
    is_within,
    state_of,
    statuses_of,
)
from .values import outgoing

__all__ = ["TaskHubGrpcClient"]


class TaskHubGrpcClient(Unconnected, EntityMethods, WaitingMethods):
    """durabletask's client.

    Args:
        durable: where the orchestrators are registered; that of the current Celery app if left out.
        options: of durabletask's connection to its sidecar; refused.
    """

    def __init__(self, durable: Durable | None = None, **options: Any) -> None:
        refuse_options(default_version=options.pop("default_version", None))
        refuse_options(data_converter=options.pop("data_converter", None))
        super().__init__(durable, **options)

    def close(self) -> None:
        """Do nothing: there is no connection of its own."""

    # -- starting and looking ----------------------------------------------------------------------

    def schedule_new_orchestration(
        self,
        orchestrator: Any,
        *,
        input: Any = None,
        instance_id: str | None = None,
        start_at: datetime | None = None,
        reuse_id_policy: Any = None,
        tags: dict[str, str] | None = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestrator and return the instance id.

        A finished orchestration of that id is replaced.

        Args:
            orchestrator: its name, its function or its Celery task.
            input: its argument.
            instance_id: a random UUID if left out.
            start_at: when it begins; UTC, if naive.
            reuse_id_policy: refused.
            tags: strings to find it by.
            version: refused.

        Raises:
            InvalidState: one of that id is not over.
            TypeError: there is no orchestrator of that name.
        """
        refuse_options(reuse_id_policy=reuse_id_policy, version=version)
        signature = self.durable.app.signature(name_of(orchestrator), args=(outgoing(input),))
        begin = None if start_at is None else aware(start_at)
        started = self.durable.start(
            signature, instance_id=instance_id, start_at=begin, tags=tags, if_exists="restart"
        )
        return str(started.id)

    def get_orchestration_state(
        self, instance_id: str, *, fetch_payloads: bool = True
    ) -> OrchestrationState | None:
        """Return where an orchestration stands; None if there is none."""
        check_flags(fetch_payloads=fetch_payloads)
        try:
            return state_of(self.durable.get(instance_id), fetch_payloads)
        except InstanceNotFound:
            return None

    def get_orchestration_history(
        self,
        instance_id: str,
        *,
        execution_id: str | None = None,
        for_work_item_processing: bool = False,
    ) -> Sequence[Event]:
        """Return the events of the current execution, which are this package's own.

        Raises:
            InstanceNotFound: there is no such orchestration.
        """
        check_flags(for_work_item_processing=for_work_item_processing)
        refuse_options(execution_id=execution_id)
        return self.durable.get(instance_id).history()

    def list_instance_ids(
        self,
        runtime_status: list[OrchestrationStatus] | None = None,
        completed_time_from: datetime | None = None,
        completed_time_to: datetime | None = None,
        page_size: int | None = None,
        continuation_token: str | None = None,
    ) -> Page[str]:
        """Return a page of the ids of orchestrations that are over, newest first.

        A page may be shorter than asked for, or empty, before the last one.
        """
        ended = [status for status in RuntimeStatus if status.is_terminal]
        chosen = [each for each in statuses_of(runtime_status) or ended if each.is_terminal]
        if not chosen:
            return Page([], None)
        page = self.durable.find(status=chosen, limit=page_size or 100, cursor=continuation_token)
        first, last = bounds_of(completed_time_from, completed_time_to)
        found = [
            run
            for run in page.items
            if run.completed_at is not None and is_within(run.completed_at, first, last)
        ]
        return Page([run.id for run in found], page.next_cursor)

    def get_all_orchestration_states(
        self, orchestration_query: OrchestrationQuery | None = None
    ) -> list[OrchestrationState]:
        """Return where orchestrations stand, newest first.

        Inputs and outputs only if the query asks for them.
        """
        query = OrchestrationQuery() if orchestration_query is None else orchestration_query
        fetches = query.fetch_inputs_and_outputs
        check_flags(fetch_inputs_and_outputs=fetches)
        runs = self.runs(
            query.created_time_from,
            query.created_time_to,
            statuses_of(query.runtime_status),
            query.instance_id_prefix,
            limit=query.max_instance_count,
            with_payloads=fetches,
        )
        return [state_of(run, fetches) for run in runs]

    def runs(
        self,
        created_from: datetime | None,
        created_to: datetime | None,
        statuses: list[RuntimeStatus] | None,
        prefix: str | None = None,
        *,
        limit: int | None = None,
        with_payloads: bool = False,
    ) -> Iterator[Orchestration]:
        """Give the handles of orchestrations, newest first, page by page."""
        filters = filters_of(created_from, created_to, statuses, prefix)
        cursor, left = None, (1 << 31) - 1 if limit is None else limit
        while left > 0 and statuses != []:
            page = self.durable.find(
                limit=min(left, 500), cursor=cursor, with_payloads=with_payloads, **filters
            )
            yield from page.items
            left, cursor = left - len(page.items), page.next_cursor
            if cursor is None:
                return

    # -- steering ----------------------------------------------------------------------------------

    def raise_orchestration_event(
        self, instance_id: str, event_name: str, *, data: Any = None
    ) -> None:
        """Raise an event; without effect on an orchestration that is over.

        Raises:
            InstanceNotFound: there is no such orchestration.
        """
        try:
            self.durable.get(instance_id).raise_event(event_name, outgoing(data))
        except InvalidState:
            return

    def terminate_orchestration(
        self, instance_id: str, *, output: Any = None, recursive: bool = True
    ) -> None:
        """End an orchestration at once, with its children; without effect on one that is over.

        Raises:
            InstanceNotFound: there is no such orchestration.
        """
        check_flags(recursive=recursive)
        self.durable.get(instance_id).terminate(output=outgoing(output), recursive=recursive)

    def suspend_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Let an orchestration take no turns.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it is over.
        """
        self.durable.get(instance_id).suspend(reason)

    def resume_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Let a suspended orchestration go on.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it is over.
        """
        self.durable.get(instance_id).resume(reason)

    def rewind_orchestration(self, instance_id: str, *, reason: str | None = None) -> None:
        """Run again what failed of a failed orchestration, and keep what succeeded.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it has ended otherwise.
        """
        self.durable.get(instance_id).rewind(reason)

    def restart_orchestration(
        self, instance_id: str, *, restart_with_new_instance_id: bool = False
    ) -> str:
        """Start an orchestration once more with the same input, and return the instance id.

        Raises:
            InstanceNotFound: there is none.
            InvalidState: it is not over, and no new id is wanted.
        """
        check_flags(restart_with_new_instance_id=restart_with_new_instance_id)
        new_id = str(uuid.uuid4()) if restart_with_new_instance_id else None
        return str(self.durable.get(instance_id).restart(new_id).id)

    def purge_orchestration(self, instance_id: str, recursive: bool = True) -> PurgeInstancesResult:
        """Delete a finished orchestration, with its children.

        Raises:
            InvalidState: it is not over.
        """
        check_flags(recursive=recursive)
        try:
            self.durable.get(instance_id).purge(recursive)
        except InstanceNotFound:
            return PurgeInstancesResult(0, True)
        return PurgeInstancesResult(1, True)

    def purge_orchestrations_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: list[OrchestrationStatus] | None = None,
        recursive: bool = False,
        timeout: timedelta | None = None,
    ) -> PurgeInstancesResult:
        """Delete finished orchestrations; all, if nothing is set. Times are UTC, if naive.

        ``timeout`` is for how long it runs: call it again as long as ``is_complete`` is False.
        """
        check_flags(recursive=recursive)
        end = None if timeout is None else time.monotonic() + timeout.total_seconds()
        filters = filters_of(created_time_from, created_time_to, self._ended(runtime_status), None)
        deleted = 0
        while filters["status"]:
            if end is not None and time.monotonic() >= end:
                return PurgeInstancesResult(deleted, False)
            done = self.durable.purge(recursive=recursive, limit=100, **filters).done
            deleted += done
            if not done:
                break
        return PurgeInstancesResult(deleted, True)

    @staticmethod
    def _ended(wanted: Iterable[Enum] | None) -> list[RuntimeStatus]:
        chosen = statuses_of(wanted)
        return [each for each in (RuntimeStatus if chosen is None else chosen) if each.is_terminal]
