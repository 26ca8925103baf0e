"""The commands of the verbs, made from their table: for ids or for all that match filters, or, of
verbs that are not for many, for one orchestration. Events have a form of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from ..app.bulk import apply_verb
from ..core.status import RuntimeStatus
from ..engine.bulk import BulkResult
from ..engine.verb import Argument, Effect, Kind, Surface, Verb
from ..engine.verbs import offered_in
from ..errors import DurableError, InstanceNotFound, InvalidState
from .entry import NOT_POSSIBLE, command, leave
from .output import print_id, report, show_line, show_lines, styled, visible
from .parameters import ID, JSON, chosen_filters, filters, instance_id, reason

__all__ = ["verb_commands"]

_TYPES: Mapping[Kind, Any] = {
    Kind.TEXT: str,
    Kind.NUMBER: int,
    Kind.JSON: JSON,
    Kind.ERROR: str,
    Kind.FLAG: bool,
}


def verb_commands() -> list[click.Command]:
    """Return the commands of all verbs that the command line offers, in the table's order."""
    return [_command_of(verb) for verb in offered_in(Surface.CLI)]


def _command_of(verb: Verb) -> click.Command:
    if verb.name == "raise_event":
        return _of_events(verb)
    return _for_many(verb) if verb.is_bulk else _for_one(verb)


# -- arguments -------------------------------------------------------------------------------------


def _parameter(argument: Argument) -> Callable[..., Any]:
    """Return the decorator that adds an argument of a verb to its command."""
    if argument.is_positional:
        return click.argument(argument.name, type=_TYPES[argument.kind])
    name = argument.name_in(Surface.CLI).replace("_", "-")
    if argument.kind is Kind.FLAG:
        switch = f"--{name}/--{argument.off}" if argument.off else f"--{name}"
        return click.option(
            switch, argument.name, is_flag=True, default=bool(argument.default), help=argument.help
        )
    return click.option(
        f"--{name}",
        argument.name,
        type=_TYPES[argument.kind],
        required=argument.is_required,
        default=argument.default,
        help=argument.help or None,
    )


def _with_parameters(verb: Verb, function: Any, *without: str) -> Any:
    """Add the arguments of a verb to its command."""
    for argument in reversed(verb.arguments_in(Surface.CLI)):
        if argument.name not in without:
            function = _parameter(argument)(function)
    return function


def _choosing(function: Any) -> Any:
    """Add the options of a command for all that match filters."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask before a verb for many."),
        click.option("--dry-run", is_flag=True, help="Say how many it would be, and do nothing."),
        click.option("--limit", type=click.IntRange(1), help="At most so many, newest first."),
    ):
        function = option(function)
    return filters(function)


def _taken(verb: Verb, options: dict[str, Any]) -> dict[str, Any]:
    """Take what is the verb's out of the options of its command."""
    given: dict[str, Any] = {"reason": options.pop("reason")} if verb.keeps_reason else {}
    for argument in verb.arguments_in(Surface.CLI):
        value = options.pop(argument.name)
        if argument.kind is Kind.ERROR and value is not None:
            value = RuntimeError(value)
        given[argument.name] = value
    return given


# -- for one ---------------------------------------------------------------------------------------


def _for_one(verb: Verb) -> click.Command:
    """Return the command of a verb that takes one orchestration at a time."""

    @command
    def run(durable: Any, instance_id: str, **options: Any) -> None:
        is_dry, given = options.pop("dry_run", False), _taken(verb, options)
        apply = verb.foresee if is_dry else verb.apply
        found = apply(durable.runtime.client, instance_id, given)
        if isinstance(found, str):  # the id of another one
            print_id(found)
        elif found is not None:
            show_lines(str(found))
        elif text := _report_of(verb, given):
            report(f"{instance_id}: {text}")

    function: Any = reason(run) if verb.keeps_reason else run
    if verb.forecast is not None:
        function = click.option(
            "--dry-run",
            is_flag=True,
            help="Say what the orchestrator would do next, and do nothing.",
        )(function)
    function = instance_id(_with_parameters(verb, function))
    return click.command(verb.command or verb.name, help=verb.words.meaning_in(Surface.CLI))(
        function
    )


def _report_of(verb: Verb, given: Mapping[str, Any]) -> str:
    """Return what is said of an orchestration that took a verb."""
    words = verb.words
    return (words.done if words.reported is None else words.reported).format(**given)


# -- for many --------------------------------------------------------------------------------------


def _for_many(verb: Verb) -> click.Command:
    """Return the command of a verb for ids, or for all that match filters."""

    @click.argument("ids", type=ID, nargs=-1, metavar="[ID...]")
    @_choosing
    @command
    def run(
        durable: Any,
        ids: tuple[str, ...],
        limit: int | None,
        dry_run: bool,
        yes: bool,
        **options: Any,
    ) -> None:
        given = _taken(verb, options)
        chosen = chosen_filters(**options)
        if ids and chosen:
            raise ValueError("give ids or filters, not both")
        if not ids and not chosen:
            raise ValueError("give ids, or at least one filter such as --status")
        if not ids:
            most = {} if limit is None else {"limit": limit}
            number = _expected(durable, verb, chosen, limit)
            if _is_agreed(verb, number, is_dry=dry_run, is_sure=yes):
                client = durable.runtime.client
                _report(apply_verb(client, verb.name, None, given, chosen | most))
        elif dry_run:
            for id_ in ids:
                _foresee(durable, verb, id_, given)
        else:
            _to_each(durable, verb, given, ids)

    function: Any = _with_parameters(verb, run)
    if verb.keeps_reason:
        function = reason(function)
    return click.command(verb.command or verb.name, help=verb.words.meaning_in(Surface.CLI))(
        function
    )


def _expected(durable: Any, verb: Verb, chosen: dict[str, Any], limit: int | None) -> int:
    """Return how many that match would take a verb."""
    acting = [status for status in verb.acts_in if status in chosen.get("status", RuntimeStatus)]
    number = durable.count(**(chosen | {"status": acting})) if acting else 0
    return number if limit is None else min(number, limit)


def _is_agreed(verb: Verb, number: int, *, is_dry: bool, is_sure: bool) -> bool:
    """Say how many it is for, and ask; False if nothing is to be done."""
    if is_dry:
        click.echo(f"{number} would be taken")
        return False
    if number and not is_sure:
        name = verb.command or verb.name
        click.confirm(f"{name} {number} orchestrations?", abort=True, err=True)
    return True


def _report(done: BulkResult) -> None:
    """Say what came of a verb for many."""
    click.echo(f"{done.done} of {done.matched} done")
    for id_, error in done.refused.items():
        report(f"{id_}: {error}")
    if done.refused:
        leave(NOT_POSSIBLE)


# -- events ----------------------------------------------------------------------------------------


def _of_events(verb: Verb) -> click.Command:
    """Return the command that raises an event, on one by its id or on all that match filters."""

    @click.argument("words", type=ID, nargs=-1, metavar="[ID] NAME")
    @_choosing
    @command
    def run(
        durable: Any,
        words: tuple[str, ...],
        data: Any,
        event_id: str | None,
        limit: int | None,
        dry_run: bool,
        yes: bool,
        **options: Any,
    ) -> None:
        chosen = chosen_filters(**options)
        if len(words) != (1 if chosen else 2):
            raise ValueError(
                "give the id of an orchestration and the name of the event, or the name and at"
                " least one filter such as --tag"
            )
        if chosen:
            number = _expected(durable, verb, chosen, limit)
            if _is_agreed(verb, number, is_dry=dry_run, is_sure=yes):
                most = {} if limit is None else {"limit": limit}
                options = {"event_id": event_id, **chosen, **most}
                _report(durable.raise_event_many(words[0], data, **options))
            return
        id_, name = words
        verb.apply(durable.runtime.client, id_, {"name": name, "data": data, "event_id": event_id})
        report(f"{id_}: {_report_of(verb, {'name': name})}")

    help_ = f"{verb.words.meaning_in(Surface.CLI)}\n\nWithout an ID: on all that match the filters."
    return click.command(verb.command, help=help_)(_with_parameters(verb, run, "name"))


def _foresee(durable: Any, verb: Verb, instance_id: str, given: Mapping[str, Any]) -> None:
    """Say whether a verb would take an orchestration, and what that would do as far as is known."""
    run = durable.get(instance_id)
    acts = run.runtime_status in verb.acts_in
    show_line(
        f"{visible(run.id)} {styled(run.runtime_status)}{'' if acts else ', would not be taken'}"
    )
    if acts and verb.forecast is not None:
        show_lines(str(verb.foresee(durable.runtime.client, instance_id, given)))


def _to_each(durable: Any, verb: Verb, given: Mapping[str, Any], ids: tuple[str, ...]) -> None:
    """Apply a verb to every id, and tell what came of it; the last refusal gives the exit code."""
    refused: list[DurableError] = []
    for id_ in ids:
        try:
            # to delete one that is not there has no effect, and is no error
            status = None if verb.deletes else durable.get(id_).runtime_status
            verb.apply(durable.runtime.client, id_, given)
            is_idle = status is not None and verb.effect_in(status) is Effect.NOTHING
            report(f"{id_}: {f'no effect, it is {status}' if is_idle else _report_of(verb, given)}")
        except (InstanceNotFound, InvalidState) as error:
            refused.append(error)
    for earlier in refused[:-1]:
        report(str(earlier))
    if refused:
        raise refused[-1]
