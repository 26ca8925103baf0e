"""The files that a new verb and a new kind of command touch: the page for contributors is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from celery_durable.core.history import EventKind
from celery_durable.core.kinds import KINDS, Kind
from celery_durable.core.kinds import __file__ as kinds_package
from celery_durable.engine.compilers import COMPILERS
from celery_durable.engine.verbs import VERBS
from celery_durable.handles.orchestration import Orchestration

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "celery_durable"
PAGE = (ROOT / "docs/internals/adding-a-command.md").read_text()
OF_A_VERB, OF_A_KIND = (
    re.findall(r"^\| `([^`]+)`", part, re.MULTILINE)
    for part in PAGE.split("## A verb")[1].split("## A kind of command")
)
#: Kind -> the modules that know its commands or events by name, beside its own, its compiler, the
#: registries and the vocabulary of history. What is added here leaks from the kind. Those that stay
#: are of these sorts:
#:
#: * who makes a kind's notes or messages (``joins``; ``asking``, ``verbs/events``, ``entities`` and
#:   ``entity_client``; ``writes``, for a child that is gone), or its commands for another feature
#:   (``entity/run``, ``references``: messages to entities);
#: * SQL and what is sorted like it: rows of one kind are chosen by their name (``store/...``; the
#:   order of ``intake``);
#: * a feature of that kind alone: limits of activities, results in Django's tables, metrics and
#:   spans of activities, timers and events, a timer before a retry (``failures``);
#: * names of another product's events (``http/shapes``), and examples (``debugger``);
#: * pictures that draw one in a way of its own (``timeline_calls``, ``timeline_life``).
#:
#: That an execution begins, is asked to cancel and ends is known to all that handles instances.
KNOWN_BY = {
    "call": "core/joins",
    "activity": "contrib/django/task_results engine/activity_limits engine/debugger engine/records"
    " http/shapes inspection/timeline_calls telemetry/tracing worker/telemetry_events",
    "child": "engine/writes http/shapes inspection/timeline_calls",
    "timer": "engine/intake inspection/failures inspection/timeline_calls store/causes"
    " store/metrics_snapshot store/inbox_reads store/reads store/waits worker/telemetry_events",
    "entity_call": "",
    "external_event": "core/entity/run core/references engine/entities engine/entity_client"
    " engine/verbs/events inspection/timeline_calls telemetry/tracing",
    "request": "engine/asking inspection/timeline_calls",
    "side_effect": "",
    "patch": "",
    "typed_payload": "",
    "execution": "azure/functions core/rewind engine/commit engine/decide engine/forecast"
    " engine/inline_turns engine/intake engine/observers engine/records engine/schedules"
    " engine/stopped_code engine/summary engine/verbs/interventions engine/verbs/steering"
    " engine/writes http/shapes inspection/debugging inspection/timeline_life inspection/views"
    " store/causes store/inbox store/waits",
}
_THEIR_OWN = ("core/kinds/", "engine/compilers/", "core/history")
MODULES = {
    name: path.read_text()
    for path in PACKAGE.rglob("*.py")
    if not (name := str(path.relative_to(PACKAGE).with_suffix(""))).startswith(_THEIR_OWN)
}


def module_of(kind: type[Kind]) -> str:
    return kind.__module__.rpartition(".")[2]


def test_the_page_lists_six_files_of_a_kind_and_four_of_a_verb() -> None:
    assert (len(OF_A_KIND), len(OF_A_VERB)) == (6, 4)
    for path in (*OF_A_KIND, *OF_A_VERB):
        assert (ROOT / path).parent.is_dir() or "<" in path, path


@pytest.mark.parametrize("kind", KINDS.kinds, ids=module_of)
def test_a_kind_is_known_by_name_where_that_is_listed_and_nowhere_else(kind: type[Kind]) -> None:
    events = [*kind.inputs, *kind.notes, *(each.confirmed_by for each in kind.commands)]
    names = [each.__name__ for each in kind.commands]
    for event in map(EventKind, events):
        names += [f"EventKind.{event.name}", f"K.{event.name}", f'"{event}"']
    known = re.compile(rf"(?<![A-Za-z])({'|'.join(map(re.escape, names))})(?![A-Z_a-z])")
    found = {name for name, text in MODULES.items() if names and known.search(text)}
    assert found == set(KNOWN_BY[module_of(kind)].split())


def test_a_compiler_is_in_the_module_of_the_kind_of_its_command() -> None:
    home = {command: module_of(kind) for kind in KINDS.kinds for command in kind.commands}
    for command, compiler in COMPILERS.items():
        assert compiler.__module__.rpartition(".")[2] == home[command]
    # a command that is a fact alone has none
    facts = {command.__name__ for command in home if command not in COMPILERS}
    assert facts == {"RecordRun", "RecordPatch", "RefusePayload"}


def test_what_kinds_add_to_the_context_is_on_the_page_of_the_context() -> None:
    page = (ROOT / "docs/reference/context.md").read_text()
    package = Path(kinds_package).parent
    methods = {
        name
        for path in package.glob("*.py")
        for block in re.findall(r"class \w+\(ContextPart\):.*?(?=\n\S|\Z)", path.read_text(), re.S)
        for name in re.findall(r"^    def ([a-z]\w*)\(", block, re.MULTILINE)
    }
    assert "wait_event" in methods
    assert not [name for name in sorted(methods) if f"ctx.{name}" not in page]


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_has_its_row_its_method_and_its_permission(name: str) -> None:
    modules = [path.read_text() for path in (PACKAGE / "engine/verbs").glob("*.py")]
    assert sum(bool(re.search(rf'= Verb\(\s*"{name}"', text)) for text in modules) == 1
    assert callable(getattr(Orchestration, name))
    folder = PACKAGE / "contrib/django/migrations"
    assert any(f"{name}_instance" in path.read_text() for path in folder.glob("*.py"))
