"""Contracts: what orchestrators and tasks take, give and wait for, as JSON Schema."""

from __future__ import annotations

import enum
import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from celery import Celery
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict, Field, computed_field

from celery_durable import ConfigurationError, Durable
from celery_durable.cli import durable as commands
from celery_durable.conversion import Encoder
from celery_durable.inspection.json_types import JsonTypes


class Money:
    pass


class Point(NamedTuple):
    x: int
    y: int = 0


class Size(enum.Enum):
    S = "s"
    L = "l"


@dataclass
class Line:
    sku: str
    price: Money
    size: Size = Size.S
    wait: timedelta = timedelta(hours=1)


@dataclass
class Order:
    id: str
    lines: list[Line]
    at: Point
    file: Path
    parent: Order | None = None


class Receipt(BaseModel):
    total: float
    paid_in: timedelta = timedelta(0)
    note: str = Field(default="", alias="remark")


@pytest.fixture
def app() -> Any:
    app = Celery("contracts", broker="memory://", set_as_current=False)
    durable = Durable(app)
    durable.add_converter(Money, encode=lambda money: 1, decode=lambda value: Money())

    @app.task(name="shop.charge", pydantic=True, shared=False)
    def charge(order: Receipt, times: int = 3) -> Receipt: ...

    @app.task(name="shop.ship", bind=True, shared=False)
    def ship(self: Any, order, fast=False) -> None: ...

    @app.task(name="shop.plain", shared=False)
    def plain(order): ...

    @app.task(name="shop.kept", shared=False, durable=True)
    def kept(order): ...

    @durable.orchestrator(name="shop.sale", version="1")
    async def sale_1(ctx, order): ...

    @durable.orchestrator(name="shop.sale", version="2")
    async def sale(
        ctx: Any, order: Order, fast: bool = False, *rest: int, price: float = None, **more: Point
    ) -> Receipt:
        await ctx.wait_event("approved", type=Receipt)
        await ctx.wait_event("approved", type=Size)
        await ctx.wait_event(f"paid-{order.id}")
        await ctx.wait_request("change", type=dict[str, Point])

    @sale.query
    def status(state: Any) -> Any: ...

    return app


def test_the_contract_of_an_orchestrator(app: Any) -> None:
    found = app.durable.schema("shop.sale")
    assert found["version"] == "2" and list(found["versions"]) == ["1"]
    taken = found["input"]
    assert taken["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert taken["$id"] == "urn:celery-durable:shop.sale:2:input"
    assert taken["required"] == ["order"]
    assert list(taken["properties"]) == ["order", "fast", "price"]
    assert taken["properties"]["fast"] == {"type": "boolean", "default": False}
    price = {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None}
    assert taken["properties"]["price"] == price
    assert taken["additionalProperties"] == {"$ref": "#/$defs/Point"}
    assert found["by_position"] == ["order", "fast"]
    assert found["more_by_position"]["type"] == "integer"
    assert sorted(taken["$defs"]) == ["Line", "Order", "Point", "Size"]
    assert list(found["events"]) == ["approved"] and list(found["requests"]) == ["change"]
    forms = [{"$ref": "#/$defs/Receipt"}, {"$ref": "#/$defs/Size"}]
    assert found["events"]["approved"]["anyOf"] == forms
    assert found["queries"] == ["status"]
    assert [each["code"] for each in found["unknown"]] == ["ctx.wait_event(f'paid-{order.id}')"]


def test_what_is_described_is_what_is_written(app: Any) -> None:
    definitions = app.durable.schema("shop.sale")["input"]["$defs"]
    line = definitions["Line"]["properties"]
    assert line["wait"]["type"] == "number" and line["wait"]["default"] == 3600
    assert set(line["price"]) == {"title"}  # it has a converter
    assert definitions["Size"]["enum"] == ["s", "l"]
    assert definitions["Point"]["type"] == "array"
    assert definitions["Order"]["properties"]["file"]["type"] == "string"
    receipt = app.durable.schema("shop.sale")["result"]["$defs"]["Receipt"]
    assert receipt["properties"]["paid_in"]["type"] == "string"  # pydantic writes a model
    assert "note" in receipt["required"] and "remark" not in receipt["properties"]


def test_values_as_they_are_written_fit(app: Any) -> None:
    validators = pytest.importorskip("jsonschema_rs")
    line = Line("a", Money(), Size.L, timedelta(seconds=3))
    order = Order("1", [line], Point(1, 2), Path("/a"), Order("0", [], Point(1), Path("b")))
    encoder = Encoder(app.durable.converters)
    given = json.loads(encoder.encode({"order": order, "fast": True, "other": Point(1)}))
    found = app.durable.schema("shop.sale")
    taken = validators.validator_for(found["input"])
    assert taken.is_valid(given)
    assert not taken.is_valid({**given, "fast": 1}) and not taken.is_valid({"fast": True})
    result = validators.validator_for(found["result"])
    assert result.is_valid(json.loads(encoder.encode(Receipt(total=3))))
    assert not result.is_valid({"total": 3})


def test_all_contracts(app: Any) -> None:
    found = app.durable.schema()
    assert found["format"] == 1
    # other tests may have declared some that all apps share
    known = [
        name for name in app.durable.registry.names() if not name.startswith("celery_durable.")
    ]
    assert sorted(found["orchestrators"]) == sorted(known)
    assert "shop.sale" in known
    # without annotations, and not durable, it says nothing
    own = [name for name in found["tasks"] if name.startswith("shop.")]
    assert own == ["shop.charge", "shop.kept", "shop.ship"]
    ship = found["tasks"]["shop.ship"]
    assert ship["by_position"] == ["order", "fast"] and ship["input"]["required"] == ["order"]
    assert ship["result"]["type"] == "null"
    assert json.loads(json.dumps(found)) == found


def test_fields_have_the_names_under_which_they_are_written(app: Any) -> None:
    taken = app.durable.schema("shop.charge")["input"]["$defs"]["Receipt"]
    assert list(taken["properties"]) == ["total", "paid_in", "note"]
    assert taken["required"] == ["total"]


@pytest.mark.parametrize("extra", ["ignore", "forbid"])
def test_computed_fields_are_there_where_they_are_written(app: Any, extra: Any) -> None:
    class Sum(BaseModel):
        model_config = ConfigDict(extra=extra)
        amount: int

        @computed_field
        def twice(self) -> int:
            return 2 * self.amount

    def sale(ctx: Any) -> None: ...

    sale.__annotations__ = {"return": Sum}
    app.durable.orchestrator(sale, name="shop.sum", shared=False)
    found = app.durable.schema("shop.sum")["result"]["$defs"]["Sum"]
    written = json.loads(Encoder().encode(Sum(amount=1)))
    assert found["required"] == list(found["properties"]) == list(written)


def test_unknown_names_and_types_that_cannot_be_described(app: Any) -> None:
    with pytest.raises(ValueError, match="no orchestrator or task 'shop.other'.*shop.sale"):
        app.durable.schema("shop.other")

    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
            raise RuntimeError("not today")

    def odd(ctx: Any, order: Any) -> None: ...

    odd.__annotations__ = {"order": Odd}
    app.durable.orchestrator(odd, name="shop.odd")
    found = app.durable.schema("shop.odd")
    assert found["input"]["properties"] == {"order": {}}
    (unknown,) = found["unknown"]
    assert unknown["what"] == "the type of the argument 'order'"
    assert unknown["code"] == "RuntimeError: not today"


def test_a_pydantic_that_is_missing_is_named(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic.json_schema", None)
    with pytest.raises(ConfigurationError, match="pip install 'pydantic>=2.7'"):
        JsonTypes(app.durable.converters)


# -- the command -----------------------------------------------------------------------------------


def _run(app: Any, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(commands, ["schema", *arguments], obj=app)
    return done.exit_code, done.output


def test_the_command_prints_what_the_method_gives(app: Any) -> None:
    code, text = _run(app)
    assert code == 0 and json.loads(text) == app.durable.schema()
    code, text = _run(app, "shop.sale")
    assert code == 0 and json.loads(text) == app.durable.schema("shop.sale")
    code, text = _run(app, "shop.other")
    assert code == 2 and "shop.other" in text


def test_the_command_writes_a_file_or_one_for_each(app: Any, tmp_path: Path) -> None:
    assert _run(app, "--output", str(tmp_path / "all.json"))[0] == 0
    assert json.loads((tmp_path / "all.json").read_text()) == app.durable.schema()
    folder = tmp_path / "each"
    folder.mkdir()
    assert _run(app, "--output", str(folder))[0] == 0
    names = ["shop.charge", "shop.kept", "shop.sale", "shop.ship"]
    assert sorted(path.name for path in folder.glob("shop.*")) == [f"{name}.json" for name in names]
    sale = json.loads((folder / "shop.sale.json").read_text())
    assert sale == app.durable.schema("shop.sale")
