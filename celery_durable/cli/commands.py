"""The commands of ``celery durable``: each reads its options, calls the public interface, and prints."""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..core.status import RuntimeStatus
from ..engine.verbs import statuses_of
from ..errors import ConfigurationError, DurableError, OrchestrationFailed
from ..result import Orchestration
from ..views import age, entity_view, instance_view, plain, schedule_view, timeline_view
from .output import FAILED, TIMED_OUT, command, durable_of, formatted, moment, show_one, show_rows, tell

__all__ = ["COMMANDS"]

_COLUMNS = ("id", "name", "status", "age", "reason")


class _InstanceId(click.ParamType):  # type: ignore[type-arg]
    """An instance id, completed from the store."""

    name = "id"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with suppress(Exception):
            page = durable_of(ctx).find(id_prefix=incomplete or None, limit=50)
            return [CompletionItem(run.id, help=f"{run.name} {run.runtime_status}") for run in page.items]
        return []


class _Json(click.ParamType):  # type: ignore[type-arg]
    """A JSON value; ``@file`` reads it from a file, and ``-`` from standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            if value == "-":
                value = sys.stdin.read()
            elif value.startswith("@"):
                value = Path(value[1:]).read_text()
            return json.loads(value)
        except (OSError, ValueError) as error:
            return self.fail(f"{error}: JSON is needed, @file or -", param, ctx)


ID, JSON = _InstanceId(), _Json()
_id = click.argument("instance_id", type=ID, metavar="ID")
_reason = click.option("--reason", help="Kept in history.")


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose orchestrations: the same for list, count and the verbs."""
    options: list[Callable[..., Any]] = [
        click.option(
            "--status",
            "statuses",
            multiple=True,
            type=click.Choice([str(s) for s in RuntimeStatus], case_sensitive=False),
        ),
        click.option("--name", help="Of the orchestrator."),
        click.option("--version"),
        click.option(
            "--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=_tags, help="All given ones must match."
        ),
        click.option("--id-prefix"),
        click.option(
            "--since", callback=moment, metavar="WHEN", help="Created since: an ISO time, or an age such as 2h."
        ),
        click.option("--until", callback=moment, metavar="WHEN", help="Created before."),
        click.option("--parent", "parent_id", type=ID, help="Sub-orchestrations of this one."),
        click.option("--stuck", is_flag=True, default=None, help="Those that should move and do not."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _tags(_: click.Context, option: click.Parameter, given: Iterable[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        raise click.BadParameter(f"{wrong!r} is no NAME=VALUE", param=option)
    return {name: value for name, _, value in pairs}


def _chosen(
    statuses: Iterable[str], tags: dict[str, str], since: datetime | None, until: datetime | None, **others: Any
) -> dict[str, Any]:
    """Return the filters that were given, by the names of ``durable.find``."""
    found = {
        "status": [status.upper() for status in statuses] or None, "tags": tags or None, "created_after": since,
        "created_before": until, **others,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def _row(run: Orchestration) -> dict[str, Any]:
    return instance_view(run) | {"age": age(run.created_at)}


# -- start and look ---------------------------------------------------------------------------------------------


@click.command()
@click.argument("name")
@click.option("--input", "given", type=JSON, help="The one argument, as JSON, @file or -.")
@click.option("-a", "--args", "args", type=JSON, help="All positional arguments, as a JSON list.")
@click.option("-k", "--kwargs", "kwargs", type=JSON, help="Keyword arguments, as a JSON object.")
@click.option("--id", "instance_id")
@click.option("--at", "start_at", metavar="TIME", help="An ISO time to begin at (UTC where it has no zone).")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=_tags)
@click.option("--if-exists", type=click.Choice(["return", "raise", "restart", "replace"]), default="return")
@click.option("--wait", is_flag=True, help="Wait for the end, and print the result.")
@click.option("--timeout", type=float, help="Seconds to wait at most.")
@command
def start(
    durable: Any, name: str, given: Any, args: Any, kwargs: Any, start_at: str | None, wait: bool, timeout: float | None,
    **options: Any,
) -> None:  # fmt: skip
    """Start the orchestrator NAME, and print the id."""
    task = durable.app.tasks.get(name)
    if task is None or name not in durable.registry:
        known = ", ".join(sorted(durable.registry.names()))
        raise ValueError(f"there is no orchestrator {name!r}; known are {known}")
    if given is not None and args is not None:
        raise ValueError("give --input or --args, not both")
    if not isinstance(args or [], list) or not isinstance(kwargs or {}, dict):
        raise ValueError("--args is a JSON list, --kwargs a JSON object")
    positional = [given] if given is not None else args or []
    when = None if start_at is None else _aware(datetime.fromisoformat(start_at))
    run = durable.start(task.s(*positional, **(kwargs or {})), start_at=when, **options)
    if wait:
        tell(run.id)
        _print_result(run, timeout)
    else:
        click.echo(run.id)


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


@click.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--cursor", help="The next_cursor of the page before.")
@click.option("--all", "shows_all", is_flag=True, help="Every page.")
@formatted()
@command
def list_(durable: Any, limit: int, cursor: str | None, shows_all: bool, form: str | None, **filters: Any) -> None:
    """List orchestrations, newest first."""
    chosen, rows = _chosen(**filters), list[dict[str, Any]]()
    while True:
        page = durable.find(limit=1000 if shows_all else limit, cursor=cursor, **chosen)
        rows += [_row(run) for run in page.items]
        cursor = page.next_cursor
        if cursor is None or not shows_all:
            break
    show_rows(rows, _COLUMNS, form, next_cursor=cursor)
    if cursor is not None:
        tell(f"there are more: --cursor {cursor}, or --all")


@click.command()
@_filters
@command
def count(durable: Any, **filters: Any) -> None:
    """Count orchestrations."""
    click.echo(durable.count(**_chosen(**filters)))


@click.command()
@_id
@click.option("--payloads", is_flag=True, help="Input, output, custom status and failure too.")
@formatted()
@command
def show(durable: Any, instance_id: str, payloads: bool, form: str | None) -> None:
    """Show one orchestration."""
    show_one(instance_view(durable.get(instance_id), payloads=payloads), form)


@click.command()
@_id
@click.option("--failed", is_flag=True, help="Only failures.")
@click.option("--payloads", is_flag=True)
@formatted(has_ids=False)
@command
def history(durable: Any, instance_id: str, failed: bool, payloads: bool, form: str | None) -> None:
    """Show the history of one orchestration; the numbers are those of fork --at."""
    run = durable.get(instance_id)
    rows = timeline_view(run, run.history(), payloads=payloads)
    shown = [row for row in rows if not failed or row["kind"].endswith("Failed")]
    show_rows(shown, ("number", "at", "kind", "command", "attempt", "name", "error"), form, key="number")


@click.command()
@_id
@click.option("--interval", type=click.FloatRange(0.05), default=0.5, help="Seconds between two looks.")
@command
def watch(durable: Any, instance_id: str, interval: float) -> None:
    """Print what happens to one orchestration until it is over."""
    run = durable.get(instance_id)
    seen, execution, said = 0, None, None
    while True:
        run.refresh()
        events = run.history()
        if run._known.execution != execution or len(events) < seen:
            execution, seen = run._known.execution, 0
        for row in timeline_view(run, events)[seen:]:
            parts = (row["at"], row["kind"], row["name"], row.get("error"))
            click.echo("  ".join(part for part in parts if part))
        seen = len(events)
        if (now := _progress(run)) != said:
            said = now
            click.echo(now)
        if run.runtime_status.is_terminal:
            break
        time.sleep(interval)
    if run.runtime_status is not RuntimeStatus.COMPLETED:
        click.get_current_context().exit(FAILED)


def _progress(run: Orchestration) -> str:
    """Return the status in words, with a bar if the custom status says how much is done: ``{"done": 3, "of": 10}``."""
    status = run.custom_status
    text = f"{run.id} is {run.runtime_status}"
    match status:
        case None:
            return text
        case {"done": int() | float() as done, "of": int() | float() as total} if total > 0:
            full = round(20 * min(1, max(0, done / total)))
            return f"{text}  [{'#' * full}{'.' * (20 - full)}] {done:g} of {total:g}"
        case _:
            return f"{text}  {json.dumps(plain(status), ensure_ascii=False)}"


@click.command()
@click.argument("ids", type=ID, nargs=-1, required=True, metavar="ID...")
@click.option("--timeout", type=float, help="Seconds to wait at most, for all.")
@command
def wait(durable: Any, ids: tuple[str, ...], timeout: float | None) -> None:
    """Wait until all are over; exit code 5 if one of them did not complete, 6 if time ran out."""
    end = None if timeout is None else time.monotonic() + timeout
    runs = [durable.get(id_) for id_ in ids]
    for run in runs:
        with suppress(Exception):
            run.wait(None if end is None else max(0.0, end - time.monotonic()))
    statuses = {run.id: run.refresh().runtime_status for run in runs}
    for id_, status in statuses.items():
        click.echo(f"{id_} {status}")
    if not all(status.is_terminal for status in statuses.values()):
        click.get_current_context().exit(TIMED_OUT)
    if any(status is not RuntimeStatus.COMPLETED for status in statuses.values()):
        click.get_current_context().exit(FAILED)


@click.command()
@_id
@click.option("--timeout", type=float, default=0.0, show_default=True, help="Seconds to wait for it.")
@command
def result(durable: Any, instance_id: str, timeout: float) -> None:
    """Print the result of one orchestration as JSON."""
    _print_result(durable.get(instance_id), timeout)


def _print_result(run: Orchestration, timeout: float | None) -> None:
    try:
        output = run.wait(timeout)
    except Exception as error:
        status = run.refresh().runtime_status
        if isinstance(error, DurableError) and not isinstance(error, OrchestrationFailed) and not status.is_terminal:
            raise
        tell(f"{run.id} is {status}: {type(error).__name__}: {error}")
        click.get_current_context().exit(FAILED if status.is_terminal else TIMED_OUT)
    click.echo(json.dumps(plain(output), ensure_ascii=False))


@click.command()
@_id
@command
def explain(durable: Any, instance_id: str) -> None:
    """Say in words what one orchestration waits for, and what to do."""
    click.echo(str(durable.get(instance_id).explain()))


# -- steer ------------------------------------------------------------------------------------------------------


@click.command()
@_id
@click.argument("name")
@click.option("--data", type=JSON, help="The payload, as JSON, @file or -.")
@click.option("--event-id", help="Deduplicates.")
@command
def event(durable: Any, instance_id: str, name: str, data: Any, event_id: str | None) -> None:
    """Raise the external event NAME on one orchestration."""
    durable.raise_event(instance_id, name, data, event_id)


def _verb(name: str, text: str, *, has_reason: bool = True, **own: Any) -> click.Command:
    """Return the command of a verb, for ids or for all that match filters."""

    @click.argument("ids", type=ID, nargs=-1, metavar="[ID...]")
    @_filters
    @click.option("--limit", type=click.IntRange(1), help="At most so many, newest first.")
    @click.option("--dry-run", is_flag=True, help="Say how many it would be, and do nothing.")
    @click.option("--yes", is_flag=True, help="Do not ask before a verb for many.")
    @command
    def run(durable: Any, ids: tuple[str, ...], limit: int | None, dry_run: bool, yes: bool, **options: Any) -> None:
        given = {key: options.pop(key) for key in list(options) if key in ("reason", *own)}
        verb, filters = getattr(durable, name), _chosen(**options)
        if ids and filters:
            raise ValueError("give ids or filters, not both")
        if ids:
            if dry_run:
                for id_ in ids:
                    click.echo(f"{id_} {durable.get(id_).runtime_status}")
                return
            for id_ in ids:
                verb(id_, **given)
            return
        if not filters:
            raise ValueError("give ids, or at least one filter such as --status")
        number = durable.count(**({"status": list(statuses_of(name))} | filters))
        number = number if limit is None else min(number, limit)
        if dry_run:
            click.echo(f"{number} would be taken")
            return
        if number and not yes:
            click.confirm(f"{name} {number} orchestrations?", abort=True, err=True)
        done = verb(**given, **filters, **({} if limit is None else {"limit": limit}))
        click.echo(f"{done.done} of {done.matched} done")
        for id_, error in done.refused.items():
            tell(f"{id_}: {error}")

    for option in own.values():
        run = option(run)
    return click.command(name, help=text)(_reason(run) if has_reason else run)


@click.command()
@_id
@click.option("--at", type=int, required=True, help="The number of the last event to keep; see history.")
@click.option("--id", "new_id", help="Of the new one.")
@_reason
@command
def fork(durable: Any, instance_id: str, at: int, new_id: str | None, reason: str | None) -> None:
    """Start another orchestration from a point in the history of this one, and print its id."""
    click.echo(durable.get(instance_id).fork(at, new_id, reason).id)


@click.command()
@_id
@click.argument("call", type=int)
@click.option("--result", "given", type=JSON, default=None, help="What it returns, as JSON; null if left out.")
@click.option("--error", help="The text of an error that it raises, instead.")
@click.option("--dry-run", is_flag=True, help="Say what the orchestrator would do next, and do nothing.")
@_reason
@command
def override(
    durable: Any, instance_id: str, call: int, given: Any, error: str | None, dry_run: bool, reason: str | None
) -> None:
    """Give the call CALL (its command number) of one orchestration its outcome by hand."""
    problem = None if error is None else RuntimeError(error)
    told = durable.get(instance_id).override(call, given, error=problem, reason=reason, dry_run=dry_run)
    if told is not None:
        click.echo(str(told))


# -- code that changes ------------------------------------------------------------------------------------------


@click.command()
@_id
@command
def export(durable: Any, instance_id: str) -> None:
    """Print the history of one orchestration as a JSON document for replay."""
    click.echo(durable.get(instance_id).export_history())


@click.command()
@click.argument("files", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1, required=True)
@click.option("--check-arguments", is_flag=True, help="Other arguments of a call are a disagreement too.")
@command
def replay(durable: Any, files: tuple[Path, ...], check_arguments: bool) -> None:
    """Replay exported histories on the code of this process; exit code 5 if one does not fit."""
    found = durable.verify([file.read_text() for file in files], check_arguments=check_arguments)
    click.echo(str(found))
    if not found.is_ok:
        click.get_current_context().exit(FAILED)


@click.command()
@click.option("--name")
@click.option("--version")
@click.option("--check-arguments", is_flag=True, help="Other arguments of a call are a disagreement too.")
@command
def verify(durable: Any, name: str | None, version: str | None, check_arguments: bool) -> None:
    """Replay every orchestration that is not over on the code of this process: the gate of a deployment."""
    filters = {key: value for key, value in (("name", name), ("version", version)) if value is not None}
    found = durable.verify(live=True, check_arguments=check_arguments, **filters)
    click.echo(str(found))
    if not found.is_ok:
        click.get_current_context().exit(FAILED)


@click.command()
@formatted(has_ids=False)
@command
def orchestrators(durable: Any, form: str | None) -> None:
    """List orchestrators and versions: what this process has, and what orchestrations that are not over need."""
    rows = []
    for use in durable.versions():
        definition = durable.registry.get(use.name, use.version)
        rows.append({
            "name": use.name, "version": use.version, "live": use.live, "registered": use.is_registered,
            "safe_to_remove": use.is_safe_to_remove, "source": _source(definition.function) if definition else None,
        })  # fmt: skip
    show_rows(rows, ("name", "version", "live", "registered", "safe_to_remove", "source"), form, key="name")


def _source(function: Any) -> str | None:
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    return None if code is None else f"{code.co_filename}:{code.co_firstlineno}"


@click.command()
@formatted()
@command
def schedules(durable: Any, form: str | None) -> None:
    """List schedules."""
    rows = [schedule_view(schedule) for schedule in durable.schedules()]
    show_rows(rows, ("name", "orchestrator", "cron", "interval", "next_at", "last_id", "is_paused"), form, key="name")


@click.command()
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--cursor", help="The next_cursor of the page before.")
@click.option("--clean", is_flag=True, help="Delete those that are empty, instead.")
@formatted()
@command
def entities(durable: Any, name: str | None, limit: int, cursor: str | None, clean: bool, form: str | None) -> None:
    """List entities, of class NAME or of all."""
    if clean:
        click.echo(f"{durable.clean_entities(name)} deleted")
        return
    page = durable.entities(name, limit=limit, cursor=cursor)
    rows = [entity_view(entity) for entity in page.items]
    show_rows(rows, ("name", "key", "state", "locked_by", "waiting", "updated_at"), form, next_cursor=page.next_cursor)


# -- the installation -------------------------------------------------------------------------------------------


@click.command()
@click.option("--check", "only_checks", is_flag=True, help="Only tell whether the tables fit: exit code 78 if not.")
@command
def migrate(durable: Any, only_checks: bool) -> None:
    """Make the store's tables, or bring them to this release."""
    if only_checks:
        _schema(durable)
    else:
        durable.migrate()
    click.echo(f"the tables of {durable.runtime.store.database} fit this release")


def _schema(durable: Any) -> None:
    from ..store.migrate import HEAD, found_revision

    found = found_revision(durable.runtime.store.database_without_check())
    if found != HEAD:
        raise ConfigurationError(f"the store is at revision {found or 'none'}, this release needs {HEAD}: run migrate")


@click.command()
@command
def check(durable: Any) -> None:
    """Check the configuration, without a look at the servers; exit code 78 if it cannot work."""
    settings, conf = durable.settings, durable.app.conf
    warnings = []
    if str(settings.backend_url).startswith("sqlite"):
        warnings.append("the store is SQLite: good for one machine; PostgreSQL is the store for production")
    if settings.serializer == "pickle":
        warnings.append("payloads are pickled: whoever can write to the store can run code in the workers")
    if conf.task_always_eager:
        warnings.append("task_always_eager is set: activities run in the process that starts the orchestration")
    if not conf.result_backend:
        warnings.append("there is no result backend: AsyncResult of other processes sees no orchestration end")
    for warning in warnings:
        tell(f"warning: {warning}")
    number = sum(1 for name in durable.registry.names() if not name.startswith("celery_durable."))
    click.echo(f"the configuration is usable; {number} orchestrators, {len(warnings)} warnings")


@click.command()
@command
def doctor(durable: Any) -> None:
    """Look at store, broker, workers and what is stuck; exit code 5 if something is wrong."""
    problems = 0
    for what, look in _LOOKS.items():
        try:
            click.echo(f"ok       {what}: {look(durable)}")
        except Exception as error:
            problems += 1
            click.echo(f"PROBLEM  {what}: {error}")
    if problems:
        click.get_current_context().exit(FAILED)


def _look_at_store(durable: Any) -> str:
    store = durable.runtime.store
    began = time.perf_counter()
    store.now()
    return f"{store.database} answers in {(time.perf_counter() - began) * 1e3:.0f} ms"


def _look_at_schema(durable: Any) -> str:
    _schema(durable)
    return "the tables fit this release"


def _look_at_clock(durable: Any) -> str:
    skew = durable.runtime.store.now() / 1_000_000 - time.time()
    if abs(skew) > 5:
        raise RuntimeError(f"the store's clock is {skew:+.1f} s off this machine's; orchestrations go by the store's")
    return f"{skew:+.1f} s beside this machine's"


def _look_at_broker(durable: Any) -> str:
    with durable.app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        return f"{connection.as_uri()} answers"


def _look_at_workers(durable: Any) -> str:
    seen = durable.runtime.store.living_workers(int(durable.settings.worker_lease * 1_000_000))
    if not seen:
        raise RuntimeError("no worker shows a heartbeat: is one running, with this store?")
    return f"{len(seen)} alive: {', '.join(sorted(seen))}"


def _look_at_stuck(durable: Any) -> str:
    number = durable.count(stuck=True)
    if number:
        raise RuntimeError(f"{number} orchestrations should move and do not: celery durable list --stuck")
    return "nothing is stuck"


_LOOKS: dict[str, Callable[[Any], str]] = {
    "store": _look_at_store, "schema": _look_at_schema, "clock": _look_at_clock, "broker": _look_at_broker,
    "workers": _look_at_workers, "orchestrations": _look_at_stuck,
}  # fmt: skip


_RECURSIVE = click.option("--recursive/--alone", default=True, help="With its sub-orchestrations, or without.")
COMMANDS: dict[str, click.Command] = {
    each.name or "": each
    for each in (
        start, list_, count, show, history, watch, wait, result, explain, event,
        _verb("suspend", "Take no more turns until they are resumed."),
        _verb("resume", "Go on after a suspension."),
        _verb("cancel", "Ask to cancel: compensation may run."),
        _verb("terminate", "End at once.", recursive=_RECURSIVE),
        _verb("rewind", "Run again what failed, and keep what succeeded."),
        _verb("restart", "Start finished ones once more, in their own place.", has_reason=False),
        _verb("purge", "Delete finished ones with their history.", has_reason=False, recursive=_RECURSIVE),
        fork, override, export, replay, verify, orchestrators, schedules, entities, migrate, check, doctor,
    )
}  # fmt: skip
