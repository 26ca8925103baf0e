"""Two releases of contracts: what breaks is told line by line, what does not is a note."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from celery import Celery
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict, Field, create_model

from celery_durable import Durable
from celery_durable.cli import durable as commands
from celery_durable.inspection.contract_changes import changes_between


def model(name: str = "Order", extra: Any = "ignore", **fields: Any) -> Any:
    return create_model(name, __config__=ConfigDict(extra=extra), **fields)


def document(*functions: Callable[..., Any], **options: Any) -> Any:
    app = Celery("changes", broker="memory://", set_as_current=False)
    durable = Durable(app)
    for function in functions:
        durable.orchestrator(function, name="sale", shared=False, **options)
    return json.loads(json.dumps(durable.schema("sale")))


def taking(type_: Any, result: Any = None) -> Any:
    async def sale(ctx: Any, order: Any) -> Any: ...

    sale.__annotations__ = {"order": type_, "return": result}
    return sale


def told(old: Any, new: Any) -> list[str]:
    return [str(each) for each in changes_between(old, new)]


def inputs(old: Any, new: Any) -> list[str]:
    return told(document(taking(old)), document(taking(new)))


def results(old: Any, new: Any) -> list[str]:
    return told(document(taking(str, old)), document(taking(str, new)))


ID = (str, ...)
LINE = model("Line", sku=ID)


class Node(BaseModel):
    value: int
    next: Node | None = None


class WiderNode(BaseModel):
    value: float
    next: WiderNode | None = None


class OtherNode(BaseModel):
    value: int
    next: OtherNode


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            model(id=ID),
            model(id=ID, note=(str, ...)),
            ["BREAKS: sale input.order.note: is new and required"],
        ),
        (model(id=ID), model(id=ID, note=(str, "")), ["note: sale input.order.note: is new"]),
        (
            model(id=ID, note=(str, "")),
            model(id=ID, note=(str, ...)),
            ["BREAKS: sale input.order.note: is required now"],
        ),
        (
            model(id=ID, note=(str, ...)),
            model(id=ID, note=(str, "")),
            ["note: sale input.order.note: is optional now"],
        ),
        (
            model(id=ID, note=(str, "")),
            model(id=ID),
            ["note: sale input.order.note: is not there any more, and is ignored"],
        ),
        (
            model(id=ID, note=(str, "")),
            model(extra="forbid", id=ID),
            [
                "BREAKS: sale input.order.note: is not taken any more, and fields that are not known"
                " are refused"
            ],
        ),
        (float, int, ["BREAKS: sale input.order: takes integer now, and no longer number"]),
        (int, float, ["note: sale input.order: takes number now; it was integer"]),
        (int, int | None, ["note: sale input.order: takes null too"]),
        (
            int | None,
            int,
            ["BREAKS: sale input.order: null is not taken any more: it has to be integer"],
        ),
        (Any, int, ["BREAKS: sale input.order: takes integer now, and no longer anything"]),
        (
            Literal["a", "b"],
            Literal["a"],
            ['BREAKS: sale input.order: "b" is not taken any more: it has to be "a"'],
        ),
        (Literal["a"], Literal["a", "b"], ['note: sale input.order: takes "b" too']),
        (
            model(lines=(list[LINE], ...)),
            model(lines=(list[model("Line", sku=(int, ...))], ...)),
            ["BREAKS: sale input.order.lines[].sku: takes integer now, and no longer string"],
        ),
        (
            model(n=(int, Field(ge=0))),
            model(n=(int, Field(ge=1))),
            ["BREAKS: sale input.order.n: had minimum 0, and has to have minimum 1 now"],
        ),
        (
            model(n=(int, 1)),
            model(n=(int, 2)),
            ["note: sale input.order.n: has the default 2 now; it was 1"],
        ),
        (Node, WiderNode, ["note: sale input.order.value: takes number now; it was integer"]),
        (
            WiderNode,
            Node,
            ["BREAKS: sale input.order.value: takes integer now, and no longer number"],
        ),
        (Node, OtherNode, ["BREAKS: sale input.order.next: is required now"]),
        (dict[str, int], model(id=ID), ["BREAKS: sale input.order.id"]),
    ],
)
def test_what_goes_in(old: Any, new: Any, expected: list[str]) -> None:
    lines = inputs(old, new)
    assert len(lines) >= len(expected)
    for line, text in zip(lines, expected, strict=False):
        assert line.startswith(text), lines
    is_broken = any(text.startswith("BREAKS") for text in expected)
    assert any(line.startswith("BREAKS") for line in lines) is is_broken


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (int, float, "BREAKS: sale result: is number now, where readers expect integer"),
        (float, int, "note: sale result: is integer now; it was number"),
        (int, int | None, "BREAKS: sale result: may be null now, where readers expect integer"),
        (int | None, int, "note: sale result: is never null now"),
        (model(id=ID, a=ID), model(id=ID), "BREAKS: sale result.a: is gone, and readers expect it"),
        (model(id=ID), model(id=ID, a=ID), "note: sale result.a: is new"),
        (
            model(extra="forbid", id=ID),
            model(extra="forbid", id=ID, a=ID),
            "BREAKS: sale result.a: is new, and readers refuse fields that they do not know",
        ),
        (Any, int, "note: sale result: is integer now; it was anything"),
    ],
)
def test_what_comes_out(old: Any, new: Any, expected: str) -> None:
    lines = results(old, new)
    assert lines[0] == expected, lines
    assert any(line.startswith("BREAKS") for line in lines) is expected.startswith("BREAKS")


async def waits_for_two(ctx: Any, order: str) -> None:
    await ctx.wait_event("paid", type=int)
    await ctx.wait_request("change")
    await ctx.wait_event(f"x-{order}")


async def waits_for_one(ctx: Any, order: str) -> None:
    await ctx.wait_event("paid", type=str)
    await ctx.wait_event("shipped")


def test_events_requests_and_names_that_are_not_known() -> None:
    assert told(document(waits_for_two), document(waits_for_one)) == [
        "BREAKS: sale event 'paid': takes string now, and no longer integer",
        "BREAKS: sale request 'change': is not waited for any more",
        "BREAKS: sale: could not be compared: the name of an event was not known in the old"
        " contract: ctx.wait_event(f'x-{order}')",
        "note: sale event 'shipped': is waited for now",
    ]
    assert told(document(waits_for_two), document(waits_for_two)) == []


def test_arguments_by_position() -> None:
    async def old(ctx: Any, a: str, b: str) -> None: ...
    async def turned(ctx: Any, b: str, a: str) -> None: ...
    async def by_name(ctx: Any, a: str, *, b: str) -> None: ...
    async def more(ctx: Any, a: str, b: str, c: int = 3) -> None: ...
    async def renamed(ctx: Any, a: str, c: str) -> None: ...

    assert told(document(old), document(turned)) == [
        "BREAKS: sale argument 1: was 'a', and is 'b' now",
        "BREAKS: sale argument 2: was 'b', and is 'a' now",
    ]
    (line,) = told(document(old), document(by_name))
    assert line == "BREAKS: sale argument 2: was 'b', and cannot be given by position any more"
    assert told(document(old), document(more)) == ["note: sale input.c: is new and optional"]
    lines = told(document(old), document(renamed))
    assert "BREAKS: sale input.c: is new and required" in lines
    assert "BREAKS: sale argument 2: was 'b', and is 'c' now" in lines


def test_versions_that_instances_have_kept() -> None:
    first, second = document(taking(int), version="1"), document(taking(int), version="2")
    gone = "is gone: instances that began with it could not move any more"
    assert f"BREAKS: sale (version 1): {gone}" in told(first, second)

    app = Celery("both", broker="memory://", set_as_current=False)
    durable = Durable(app)
    durable.orchestrator(taking(str), name="sale", shared=False, version="1")
    durable.orchestrator(taking(int), name="sale", shared=False, version="2")
    both = json.loads(json.dumps(durable.schema("sale")))
    lines = told(first, both)
    assert lines == [
        "BREAKS: sale (version 1) input.order: takes string now, and no longer integer"
    ]


def test_what_cannot_be_decided_is_a_break() -> None:
    old, new = document(taking(int)), document(taking(int))
    new["input"]["properties"]["order"] = {"type": "integer", "not": {"const": 3}}
    assert told(old, new) == ["BREAKS: sale input.order: could not be compared: the keyword not"]


def test_a_constant_may_be_a_list_of_one_as_well() -> None:
    """So old releases of pydantic describe it."""
    old, new = document(taking(Literal["a"])), document(taking(Literal["a", "b"]))
    old["input"]["properties"]["order"] = {"type": "string", "const": "a", "enum": ["a"]}
    assert told(old, new) == ['note: sale input.order: takes "b" too']


# -- the command -----------------------------------------------------------------------------------


def _app(order: Any) -> Any:
    app = Celery("releases", broker="memory://", set_as_current=False)
    Durable(app).orchestrator(taking(order), name="sale", shared=False)

    @app.task(name="shop.charge", shared=False)
    def charge(amount: int) -> int: ...

    return app


def _run(app: Any, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(commands, ["schema", *arguments], obj=app)
    return done.exit_code, done.output


def test_the_command_exits_with_1_if_something_breaks(tmp_path: Path) -> None:
    file = tmp_path / "contracts.json"
    assert _run(_app(float), "--output", str(file))[0] == 0
    assert _run(_app(float), "--against", str(file)) == (0, "nothing differs\n")
    code, text = _run(_app(int), "--against", str(file))
    assert code == 1
    assert text.splitlines() == [
        "BREAKS: sale input.order: takes integer now, and no longer number",
        "breaks: 1, notes: 0",
    ]
    code, text = _run(_app(float | None), "--against", str(file))
    assert code == 0 and text.splitlines()[0].startswith("note: sale input.order: takes null too")
    assert _run(_app(int), "shop.charge", "--against", str(file))[0] == 0
    app = _app(float)
    del app.tasks["shop.charge"]
    code, text = _run(app, "--against", str(file))
    assert code == 1 and "BREAKS: shop.charge: this task is gone" in text


def test_the_command_compares_with_a_folder_or_one_contract(tmp_path: Path) -> None:
    assert _run(_app(float), "--output", str(tmp_path))[0] == 0
    assert _run(_app(float), "--against", str(tmp_path))[0] == 0
    assert _run(_app(int), "--against", str(tmp_path))[0] == 1
    assert _run(_app(int), "--against", str(tmp_path / "sale.json"))[0] == 1
    assert _run(_app(int), "--against", str(tmp_path / "shop.charge.json"))[0] == 0


def test_what_is_no_document_of_contracts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for text in ("{", "[]", "{}", '{"format": 99, "orchestrators": {}}'):
        file.write_text(text)
        assert _run(_app(int), "--against", str(file))[0] == 2
