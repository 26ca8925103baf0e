"""Every parameter of a public name that is True or False takes nothing else: "no" would be true.

The parameters are found by their annotations, so that a new one is looked at, too.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from celery import Celery

from celery_durable import Durable, Orchestration, OrchestrationContext
from celery_durable.azure import (
    DurableFunctionsClient,
    DurableOrchestrationClient,
    SyncDurableFunctionsClient,
)
from celery_durable.azure.client import EntityQuery, OrchestrationQuery
from celery_durable.azure.contexts import AzureContext
from celery_durable.core.flags import check_flags
from celery_durable.http import EventLinks, ItsDangerousSigner
from celery_durable.testing import DurableEnv, durable_environment

MODULES = re.findall(
    r"^\| `(celery_durable[\w.]*)`",
    (Path(__file__).parents[2] / "docs/reference/modules.md").read_text(),
    re.MULTILINE,
)
#: What the package makes and hands out; nobody else calls them.
MADE_HERE = re.compile(
    r"\.(ActivityContext|CancellableTask|Entity|EntityStateResponse|FakeContext|LimitUse"
    r"|Orchestration|Pause|StoreError|Task|TaskBase|TimerTask)\.__init__$"
)
#: It gives what ``find`` finds, one by one, and hands the flag on to that.
HANDED_ON = re.compile(r"\.runs$")
_IS_FLAG = re.compile(r"^(?:typing\.)?(bool|bool \| None|bool \| str \| None)$")
WRONG = ["no", "False", "", 0, 1, 0.0, [], object()]


def public() -> Iterator[tuple[str, Any]]:
    """Yield all that is public, once: functions, classes and their methods, by their full names."""
    for name in MODULES:
        if ".django" in name or "otel" in name or "prometheus" in name:
            continue  # they have no flags, and need their frameworks
        module = importlib.import_module(name)
        for each in getattr(module, "__all__", ()):
            found = getattr(module, each)
            if not inspect.isclass(found):
                yield f"{name}.{each}", found
                continue
            for method in dir(found):
                if not method.startswith("_") or method in ("__init__", "__call__"):
                    yield f"{name}.{each}.{method}", getattr(found, method)


def flags() -> dict[str, tuple[Any, str]]:
    """Return each flag by the full name of its function and its own."""
    found = {}
    for name, function in public():
        if not callable(function) or MADE_HERE.search(name) or HANDED_ON.search(name):
            continue
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            continue
        for each in parameters:
            if _IS_FLAG.match(str(getattr(each.annotation, "__name__", each.annotation))):
                found[f"{name}({each.name})"] = function, each.name
    return found


FLAGS = flags()

app = Celery("wrong_flags", broker="memory://", set_as_current=False)
durable = Durable(app)


@durable.orchestrator(name="flags.flow")
async def flow(ctx: OrchestrationContext) -> None:
    await ctx.wait_event("go")


@pytest.fixture(scope="module")
def env() -> Iterator[DurableEnv]:
    with durable_environment(durable) as environment:
        yield environment


@pytest.fixture(scope="module")
def owners(env: DurableEnv) -> dict[str, Any]:
    """Objects of the classes whose methods have flags."""
    # outside a turn all methods of a context but these are refused
    loop = SimpleNamespace(is_open=lambda: True)
    context: Any = MagicMock(spec=OrchestrationContext, _host=MagicMock(loop=loop, open_blocks=0))
    azure: Any = SimpleNamespace(_continue=lambda *given: AzureContext._continue(context, *given))
    return {
        "Durable": durable,
        "Orchestration": env.start(flow.s(), instance_id="flags"),
        "OrchestrationContext": context,
        "DurableOrchestrationContext": azure,
        "azure.OrchestrationContext": azure,
        "EventLinks": EventLinks(durable, ItsDangerousSigner("a secret of 16 and more")),
        "DurableFunctionsClient": DurableFunctionsClient(durable),
        "DurableOrchestrationClient": DurableOrchestrationClient(durable),
        "SyncDurableFunctionsClient": SyncDurableFunctionsClient(durable),
    }


def called(function: Callable[..., Any], owner: Any, flag: str, value: Any) -> Any:
    """Call with anything for what has to be given, and the flag."""
    given: dict[str, Any] = {flag: value}
    positional: list[Any] = [] if owner is None else [owner]
    for each in list(inspect.signature(function).parameters.values())[len(positional) :]:
        is_needed = each.default is each.empty and each.name not in given
        if each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL) or not is_needed:
            continue
        thing = "flags" if each.name in ("instance_id", "history", "token") else MagicMock()
        if each.kind is each.POSITIONAL_ONLY:
            positional.append(thing)
        else:
            given[each.name] = thing
    result = function(*positional, **given)
    if inspect.iscoroutine(result):
        return asyncio.run(result)
    if isinstance(result, AbstractContextManager):
        return result.__enter__()
    return result


def test_there_are_flags() -> None:
    names = {flag for _, flag in FLAGS.values()}
    assert {"recursive", "dry_run", "keep_events", "fail_fast", "parallel", "propagate"} <= names
    assert {"with_payloads", "is_answer", "payloads", "save_events", "cancelled", "live"} <= names
    assert len(FLAGS) > 70


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_true_or_false(owners: dict[str, Any], name: str) -> None:
    function, flag = FLAGS[name]
    module, _, path = name.partition("(")[0].rpartition("celery_durable.")[2].rpartition(".")
    owner_name = module.rpartition(".")[2]
    owner = owners.get(module) or owners.get(owner_name)
    for value in [*WRONG, *([] if flag in ("upgrade", "live") else [None])]:
        if flag == "upgrade" and isinstance(value, str) and value:
            continue  # the name of a version
        with pytest.raises(TypeError, match=rf"^{flag} (must be|is) True(,| or) False"):
            called(function, owner, flag, value)


@pytest.mark.parametrize("value", [*WRONG, None])
def test_flags_of_queries_of_azure(value: Any) -> None:
    client = SyncDurableFunctionsClient(durable)
    for query in (EntityQuery(include_state=value), EntityQuery(include_transient=value)):
        with pytest.raises(TypeError, match="include_(state|transient) must be True or False"):
            client.get_all_entities(query)
    with pytest.raises(TypeError, match="fetch_inputs_and_outputs must be True or False"):
        client.get_all_orchestration_states(OrchestrationQuery(fetch_inputs_and_outputs=value))


@pytest.mark.parametrize("value", [*WRONG, None])
def test_a_verb_for_many_is_refused_also_where_nothing_matches(env: DurableEnv, value: Any) -> None:
    for verb in (durable.terminate, durable.purge):
        with pytest.raises(TypeError, match="recursive must be True or False"):
            verb(status="COMPLETED", recursive=value)


def test_what_is_true_or_false_passes() -> None:
    check_flags(one=True, other=False)


def test_a_handle_says_the_same(env: DurableEnv, owners: dict[str, Orchestration[Any]]) -> None:
    run = owners["Orchestration"]
    with pytest.raises(TypeError, match="recursive must be True or False, not 'no'"):
        run.terminate(recursive="no")  # type: ignore[arg-type]
    assert run.refresh().runtime_status == "RUNNING"
