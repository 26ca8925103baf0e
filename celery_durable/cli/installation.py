"""The installation: migrate, check, doctor."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from ..app.archiving import archive_of
from ..checks import findings
from ..core.status import RuntimeStatus
from ..core.times import EPOCH
from ..errors import ConfigurationError
from .entry import FAILED, command, leave
from .output import report, show_line, styled, visible
from .payloads import check_payloads
from .queues import check_queues

__all__ = ["check", "doctor", "migrate"]

_LATE = timedelta(minutes=1)
#: So many live orchestrations are looked at for what travels with them.
_SAMPLE = 100
_MOST_COUNTED = 10_000


@click.command()
@click.option(
    "--check",
    "only_checks",
    is_flag=True,
    help="Only tell whether the tables fit: exit code 78 if not.",
)
@click.option(
    "--sql", "prints_sql", is_flag=True, help="Print what would be done, as SQL, and do nothing."
)
@click.option(
    "--from",
    "since",
    metavar="REVISION",
    help="With --sql: begin there (base: no tables), and ask no database.",
)
@command
def migrate(durable: Any, only_checks: bool, prints_sql: bool, since: str | None) -> None:
    """Make the store's tables, or bring them to this release."""
    if only_checks and prints_sql:
        raise ValueError("give --check or --sql, not both")
    if since is not None and not prints_sql:
        raise ValueError("--from goes with --sql")
    if prints_sql:
        _print_sql(durable, since)
        return
    if only_checks:
        _schema(durable)
    else:
        durable.migrate()
    click.echo(f"the tables of {durable.runtime.store.database} fit this release")


def _print_sql(durable: Any, since: str | None) -> None:
    from ..store.migrate import migration_sql

    sql = migration_sql(durable.runtime.store.database_without_check(), since)
    if sql:
        click.echo(sql, nl=False)
    else:
        report("nothing is to be done: the tables fit this release")


def _schema(durable: Any) -> None:
    from ..store.migrate import HEAD, found_revision, mismatch_in

    database = durable.runtime.store.database_without_check()
    if (problem := mismatch_in(database)) is not None:
        found = found_revision(database)
        advice = ": run migrate" if found is None or found < HEAD else ""
        raise ConfigurationError(f"the store {problem}{advice}")


@click.command()
@command
def check(durable: Any) -> None:
    """Check the configuration, without a look at the servers; exit code 78 if it cannot work."""
    found = findings(durable)
    for finding in found:
        report(f"{finding.kind}: {finding.message}. {finding.hint} ({finding.id})")
    if errors := [finding for finding in found if finding.is_error]:
        raise ConfigurationError(
            f"the configuration cannot be used: {len(errors)} error{'s' if len(errors) > 1 else ''}"
        )
    durable.app.finalize()
    number = sum(1 for name in durable.registry.names() if not name.startswith("celery_durable."))
    click.echo(
        f"the configuration is usable; {number} orchestrators,"
        f" {sum(1 for each in found if each.kind == 'warning')} warnings"
    )


@click.command()
@command
def doctor(durable: Any) -> None:
    """Look at store, broker, workers and what is stuck; exit code 5 if something is wrong."""
    shown: set[str] = set()
    for what, check_of in _CHECKS.items():
        try:
            show_line(f"{styled('ok')}       {what}: {visible(check_of(durable))}")
        except Exception as error:
            problem = str(error)
            show_line(
                f"{styled('PROBLEM')}  {what}:"
                f" {'see above' if problem in shown else visible(problem)}"
            )
            shown.add(problem)
    if shown:
        leave(FAILED)


def _check_store(durable: Any) -> str:
    store = durable.runtime.store
    began = time.perf_counter()
    store.now()
    return f"{store.database} answers in {(time.perf_counter() - began) * 1e3:.0f} ms"


def _check_schema(durable: Any) -> str:
    _schema(durable)
    return "the tables fit this release"


def _check_clock(durable: Any) -> str:
    skew = durable.runtime.store.now() / 1_000_000 - time.time()
    if abs(skew) > 5:
        raise RuntimeError(
            f"the store's clock is {skew:+.1f} s off this machine's; orchestrations go by the"
            " store's"
        )
    return f"{skew:+.1f} s beside this machine's"


def _check_broker(durable: Any) -> str:
    with durable.app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=5)
        except (AttributeError, ImportError) as error:  # by transport and release of kombu
            kind = connection.transport_cls
            raise RuntimeError(
                f"the client library of {kind!r} seems to be missing ({error}): install"
                f" celery[{kind}]"
            ) from error
        return f"{connection.as_uri()} answers"


def _check_workers(durable: Any) -> str:
    seen = durable.runtime.store.workers.living_workers(
        int(durable.settings.worker_lease * 1_000_000)
    )
    if not seen and not durable.count():
        return "none runs yet, and nothing waits for one: celery -A ... worker"
    if not seen:
        raise RuntimeError("no worker shows a heartbeat: is one running, with this store?")
    return f"{len(seen)} alive: {', '.join(sorted(seen))}"


def _check_code(durable: Any) -> str:
    uses = durable.versions()
    if missing := [use for use in uses if use.live and not use.is_registered]:
        names = ", ".join(
            use.name if use.version is None else f"{use.name} v{use.version}" for use in missing
        )
        number = sum(use.live for use in missing)
        raise RuntimeError(
            f"{number} orchestrations that are not over need {names}, which this process does not"
            " have"
        )
    return "this process has the code of all orchestrations that are not over"


def _check_context(durable: Any) -> str:
    live = [status for status in RuntimeStatus if not status.is_terminal]
    keys = {key for run in durable.find(status=live, limit=_SAMPLE).items for key in run.context}
    unknown = sorted(
        key
        for key in keys
        if key not in durable.propagators and key not in durable.settings.propagate
    )
    if unknown:
        raise RuntimeError(
            f"orchestrations carry {', '.join(unknown)}, which this process does not restore:"
            " declare it here too, by durable_propagate or durable.propagate()"
        )
    return f"this process restores what travels: {', '.join(sorted(keys)) or 'nothing'}"


def _check_schedules(durable: Any) -> str:
    now = datetime.now(UTC)
    found = durable.schedules()
    if late := [
        each.name for each in found if each.next_at is not None and now - each.next_at > _LATE
    ]:
        raise RuntimeError(
            f"due for more than a minute, and no worker has started them: {', '.join(late)}"
        )
    return f"{len(found)}, none is late"


def _check_pauses(durable: Any) -> str:
    found = durable.pauses()
    if not found:
        return "nothing is paused"
    return "; ".join(
        f"{each.kind} {each.name} since {each.since:%Y-%m-%d %H:%M} UTC, which holds {each.held}"
        + ("" if each.until is None else f", until {each.until:%Y-%m-%d %H:%M} UTC")
        + (f": {each.reason}" if each.reason else "")
        for each in found
    )


def _check_limits(durable: Any) -> str:
    numbers: dict[tuple[str, str], dict[int, str]] = {}
    for task, limits in durable.runtime.runner.limits.declared().items():
        for limit in limits:
            at = limit.label(task), limit.name or task
            numbers.setdefault(at, {}).setdefault(limit.most, task)
    if doubled := [
        f"{name!r} is " + " and ".join(f"{most} in {task}" for most, task in sorted(found.items()))
        for (_, name), found in numbers.items()
        if len(found) > 1
    ]:
        raise RuntimeError(
            f"one name has two numbers, of which the smaller holds: {'; '.join(doubled)}"
        )
    return f"{len(numbers)} of activities, each with one number"


def _check_archive(durable: Any) -> str:
    runtime = durable.runtime
    state = runtime.store.archiving.state(_MOST_COUNTED)
    if runtime.settings.archive is None and not state.failing:
        return "there is none: retention and purge just delete"
    if runtime.settings.archive is not None:
        archive_of(runtime.settings.archive)
    waiting = f"{state.waiting}{' or more' if state.waiting >= _MOST_COUNTED else ''}"
    if state.failing:
        since = (EPOCH + timedelta(microseconds=state.failed_at or 0)).isoformat(" ", "seconds")
        raise RuntimeError(
            f"{waiting} orchestrations wait for the archive, which failed at {state.failing} of"
            f" them; the last time at {state.last_failed!r}, {since}: {state.last_error}"
        )
    return f"{waiting} orchestrations wait for it"


def _check_stuck(durable: Any) -> str:
    number = durable.count(stuck=True)
    if number:
        raise RuntimeError(
            f"{number} orchestrations should move and do not: celery durable list --stuck"
        )
    return "nothing is stuck"


_CHECKS: dict[str, Callable[[Any], str]] = {
    "store": _check_store,
    "schema": _check_schema,
    "clock": _check_clock,
    "broker": _check_broker,
    "workers": _check_workers,
    "code": _check_code,
    "context": _check_context,
    "queues": check_queues,
    "schedules": _check_schedules,
    "pauses": _check_pauses,
    "limits": _check_limits,
    "archive": _check_archive,
    "payloads": check_payloads,
    "orchestrations": _check_stuck,
}
