"""Values of the application's types are plain JSON in the store, and come back where the type is
named.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict
from unittest.mock import MagicMock, Mock
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    Secret,
    SecretBytes,
    SecretStr,
    SerializeAsAny,
    computed_field,
    field_serializer,
)

from celery_durable import PayloadError
from celery_durable.conversion import Converters, is_looked_at
from celery_durable.core.futures import SKIPPED
from celery_durable.payload import PayloadCodec


class Colour(Enum):
    RED = "red"
    DEEP = 3


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    colour: Colour


@dataclass(frozen=True)
class Leaf:
    name: str
    colour: Colour
    within: timedelta


class Model(BaseModel):
    amount: Decimal
    at: datetime
    leaf: Leaf | None = None


class Money(int):
    """A class that JSON writes by itself."""


TEXT = st.text(max_size=5)
LEAVES = st.builds(
    Leaf, TEXT, st.sampled_from(Colour), st.timedeltas(timedelta(-999), timedelta(999))
)
MOMENTS = st.datetimes(timezones=st.just(UTC))
SIMPLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (timedelta, st.timedeltas(timedelta(-999), timedelta(999))),
    (Path, st.sampled_from([Path("a/b"), Path(".")])),
    (datetime, MOMENTS),
    (date, st.dates()),
    (time, st.times()),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=3)),
    (Leaf, LEAVES),
    (Point, st.builds(Point, st.integers(), st.sampled_from(Colour))),
    (Model, st.builds(Model, amount=st.decimals(0, 9, places=2), at=MOMENTS, leaf=LEAVES)),
    (int, st.integers()),
    (str, TEXT),
]


@st.composite
def typed_values(draw: st.DrawFn, depth: int = 3) -> tuple[Any, Any]:
    """Draw an annotation, and a value of that type."""
    shape = draw(st.sampled_from(["simple", "list", "dict", "none", "tuple", "set"]))
    if depth == 0 or shape == "simple":
        annotation, values = draw(st.sampled_from(SIMPLE))
        return annotation, draw(values)
    if shape == "set":
        annotation, values = draw(st.sampled_from([SIMPLE[0], SIMPLE[2], SIMPLE[9], SIMPLE[13]]))
        return set[annotation], draw(st.sets(values, max_size=4))
    annotation, value = draw(typed_values(depth - 1))
    match shape:
        case "list":
            return list[annotation], [value] * draw(st.integers(0, 3))
        case "dict":
            return dict[str, annotation], dict.fromkeys(draw(st.lists(TEXT, max_size=3)), value)
        case "tuple":
            other, another = draw(typed_values(depth - 1))
            return tuple[annotation, other], (value, another)
        case _:
            return annotation | None, draw(st.sampled_from([None, value]))


@settings(max_examples=200)
@given(typed_values())
def test_what_is_written_comes_back_as_the_type_that_is_named(drawn):
    annotation, value = drawn
    codec = PayloadCodec()
    payload = codec.encode({"inside": [value]})
    [found] = codec.decode(payload)["inside"]
    assert codec.as_type(found, annotation, "it") == value
    assert codec.encode({"inside": [value]}) == payload


def test_another_serializer_is_given_plain_values_where_it_refuses_others():
    codec = PayloadCodec("yaml", accept=["yaml"])
    leaf = Leaf("a", Colour.DEEP, timedelta(1))
    payload = codec.encode([leaf, {"level": Level.LOW}, Path("a"), {"b"}])
    first, *rest = codec.decode(payload)
    assert codec.as_type(first, Leaf, "it") == leaf
    assert rest == [{"level": 1}, "a", ["b"]]
    with pytest.raises(PayloadError, match="Decimal"):
        codec.encode([Decimal(1)])


@given(typed_values())
def test_what_is_stored_names_no_class(drawn):
    payload = PayloadCodec().encode(drawn[1])
    assert "test_conversion" not in payload
    assert not {"Leaf", "Colour", "Model"} & set(payload.split('"'))


def test_arguments_of_a_task_are_sent_as_they_are_stored():
    codec = PayloadCodec()
    leaf = Leaf("a", Colour.RED, timedelta(1))
    text, args, kwargs = codec.encode_call("t", (leaf, 1), {"at": datetime(2026, 1, 1, tzinfo=UTC)})
    assert args == ({"name": "a", "colour": "red", "within": 86400.0}, 1)
    assert kwargs == {"at": datetime(2026, 1, 1, tzinfo=UTC)}
    assert codec.decode(text) == [list(args), kwargs]
    given = ([1], {"plain": "value"})
    assert codec.encode_call("t", (given,), {})[1][0] is given


def test_a_set_is_written_in_one_order_by_every_process():
    code = (
        "from celery_durable.payload import PayloadCodec;"
        "print(PayloadCodec().encode({'tags': set('abcdefgh'), 'many': {1, 'a', None, 2.5}}))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(printed) == 1


def test_a_dict_inside_that_looks_like_one_of_kombus_stays_that_dict():
    @dataclass
    class Holder:
        inner: dict[str, Any]

    codec = PayloadCodec()
    odd = {"__type__": "decimal", "__value__": "1"}
    assert codec.decode(codec.encode([Holder(odd)])) == [{"inner": odd}]


# -- converters ------------------------------------------------------------------------------------


def with_money() -> PayloadCodec:
    converters = Converters()
    converters.add(Money, lambda money: {"cents": int(money)}, lambda value: Money(value["cents"]))
    return PayloadCodec(converters=converters)


@pytest.mark.parametrize(
    "annotation", [Money, list[Money], dict[str, Money], Money | None, tuple[Money, int]]
)
def test_a_converter_comes_before_what_is_built_in(annotation):
    codec = with_money()
    value = {
        list[Money]: [Money(3)],
        dict[str, Money]: {"a": Money(3)},
        tuple[Money, int]: (Money(3), 4),
    }.get(annotation, Money(3))
    payload = codec.encode(value)
    assert '{"cents": 3}' in payload
    found = codec.as_type(codec.decode(payload), annotation, "it")
    assert found == value
    assert "Money" in str(
        [type(part) for part in [found, *(found if isinstance(found, (list, tuple)) else [])]]
    ) or isinstance(found, dict)


def test_the_converter_of_the_nearest_class_holds():
    class Base:
        pass

    class Middle(Base):
        pass

    class Leafy(Middle):
        pass

    converters = Converters()
    converters.add(Base, lambda _: "base", lambda _: Base())
    converters.add(Middle, lambda _: "middle", lambda _: Middle())
    codec = PayloadCodec(converters=converters)
    assert json.loads(codec.encode([Base(), Middle(), Leafy()])) == ["base", "middle", "middle"]


class Price:
    """A class of the application's own, which pydantic does not know."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Price) and other.cents == self.cents

    def __hash__(self) -> int:
        return self.cents


class Pair(NamedTuple):
    price: Price
    money: Money = Money(5)


@dataclass
class Line:
    price: Price
    money: Money = Money(5)
    more: list[Price] = field(default_factory=list)


class Basket(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    price: Price
    money: Money = Money(5)
    line: Line | None = None
    pair: Pair | None = None
    prices: dict[str, list[Price]] = {}
    colour: Colour = Colour.RED


class Baskets(BaseModel):
    first: Basket
    rest: list[Basket] = []
    anything: Any = None


class Row(TypedDict):
    price: Price
    colour: NotRequired[Colour]


LINE = Line(Price(1), Money(2), [Price(3)])
BASKET = Basket(price=Price(4), line=LINE, pair=Pair(Price(6)), prices={"a": [Price(7)]})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Line, LINE),
        (Pair, Pair(Price(1), Money(2))),
        (Basket, BASKET),
        (Baskets, Baskets(first=BASKET, rest=[BASKET])),
        (set[Price], {Price(1), Price(2)}),
        (set[Money], {Money(1)}),
        (tuple[Basket, ...], (BASKET,)),
        (Basket | None, BASKET),
        (Row, {"price": Price(1)}),
        (list[Row], [{"price": Price(1), "colour": Colour.DEEP}]),
    ],
)
def test_a_converter_holds_in_the_fields_of_what_pydantic_reads(annotation, value):
    converters = Converters()
    converters.add(Price, lambda price: {"price": price.cents}, lambda v: Price(v["price"]))
    converters.add(Money, lambda money: {"cents": int(money)}, lambda v: Money(v["cents"]))
    converters.add(Colour, lambda colour: colour.name, lambda v: Colour[v])
    codec = PayloadCodec(converters=converters)
    payload = codec.encode({"inside": value})
    found = codec.as_type(codec.decode(payload)["inside"], annotation, "it")
    assert (found, type(found)) == (value, type(value))
    assert codec.encode({"inside": found}) == payload
    codec.encode(Baskets(first=BASKET, anything=[BASKET, {"a": Price(1)}]))


def test_a_converter_that_is_added_later_holds_too():
    converters = Converters()
    codec = PayloadCodec(converters=converters)
    assert codec.as_type("red", Colour, "it") is Colour.RED
    assert codec.encode(Baskets.model_construct(first=None, anything=Colour.RED)).count("red")
    converters.add(Colour, lambda colour: colour.name, lambda v: Colour[v])
    assert codec.as_type("RED", Colour, "it") is Colour.RED
    assert codec.encode(Baskets.model_construct(first=None, anything=Colour.RED)).count("RED")


# -- what reads back what was written --------------------------------------------------------------


class Corner(Enum):
    LEFT = (0, 1)
    RIGHT = (1, 1)


class Span(Enum):
    DAY = timedelta(1)
    HALF = Decimal("0.5")


class Open(BaseModel):
    side: int

    @computed_field
    @property
    def area(self) -> int:
        return self.side**2


class Strict(Open):
    model_config = ConfigDict(extra="forbid")


class Keeping(Open):
    model_config = ConfigDict(extra="allow")


class Named(BaseModel):
    model_config = ConfigDict(extra="forbid")
    order_id: str = Field(alias="orderId")


class Shapes(BaseModel):
    strict: Strict
    named: Named = Named(orderId="1")
    keeping: list[Keeping] = []
    corner: Corner = Corner.LEFT
    span: Span = Span.HALF
    texts: Json[list[int]] = Field(default=[])
    any_one: SerializeAsAny[Open] | None = None


@dataclass
class Job:
    name: str
    within: timedelta = field(default=timedelta(1), init=False)
    corner: Corner = Corner.LEFT


def _late(job: Job) -> Job:
    job.within = timedelta(2)
    return job


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Strict, Strict(side=2)),
        (Keeping, Keeping(side=2, other=1)),
        (Shapes, Shapes(strict=Strict(side=1), keeping=[Keeping(side=2)], corner=Corner.RIGHT)),
        (Shapes, Shapes(strict=Strict(side=1), span=Span.DAY, texts="[1]")),
        (Shapes, Shapes(strict=Strict(side=1), any_one=Open(side=1))),
        (Corner, Corner.RIGHT),
        (set[Corner], {Corner.LEFT}),
        (list[Span], [Span.DAY, Span.HALF]),
        (dict[Level, int], {Level.HIGH: 1}),
        (dict[Colour, Corner], {Colour.DEEP: Corner.LEFT, Colour.RED: Corner.RIGHT}),
        (Job, _late(Job("a", corner=Corner.RIGHT))),
    ],
)
def test_what_pydantic_alone_would_not_read_back_is_read_back(annotation, value):
    codec = PayloadCodec()
    payload = codec.encode([value])
    found = codec.as_type(codec.decode(payload)[0], annotation, "it")
    assert (found, type(found)) == (value, type(value))


def test_a_computed_field_is_written_where_it_harms_nothing():
    assert json.loads(PayloadCodec().encode(Open(side=2))) == {"side": 2, "area": 4}
    assert json.loads(PayloadCodec().encode(Strict(side=2))) == {"side": 2}


@pytest.mark.parametrize("cls", [Strict, Keeping])
def test_a_computed_field_that_pydantic_wrote_is_passed_over(cls):
    value = Shapes(strict=Strict(side=3), keeping=[Keeping(side=2)])
    assert PayloadCodec().as_type(value.model_dump(mode="json"), Shapes, "it") == value
    assert PayloadCodec().as_type({"side": 2, "area": 4}, cls, "it") == cls(side=2)
    with pytest.raises(PayloadError, match="other"):
        PayloadCodec().as_type({"side": 2, "other": 4}, Strict, "it")


class Hidden(BaseModel):
    word: SecretStr = SecretStr("")
    raw: SecretBytes = SecretBytes(b"")
    number: Secret[int] | None = None


class Around(BaseModel):
    inner: list[Hidden] = []
    anything: Any = None


class Telling(BaseModel):
    word: SecretStr

    @field_serializer("word", when_used="json")
    def told(self, word: SecretStr) -> str:
        return word.get_secret_value()


@pytest.mark.parametrize(
    "value",
    [
        SecretStr("a"),
        Hidden(word="a"),
        Hidden(raw=b"a"),
        Hidden(number=5),
        Around(inner=[Hidden(word="a")]),
        Around(anything={"deep": [Hidden(word="a")]}),
        {"deep": [Hidden(word="a")]},
    ],
)
def test_a_secret_that_json_hides_is_refused(value):
    with pytest.raises(PayloadError, match="Secret"):
        PayloadCodec().encode(value)


def test_a_secret_is_kept_where_the_application_says_how():
    codec = PayloadCodec()
    told = Telling(word="a")
    assert codec.as_type(codec.decode(codec.encode(told)), Telling, "it") == told
    empty = Hidden()
    assert codec.as_type(codec.decode(codec.encode(empty)), Hidden, "it").word == empty.word
    converters = Converters()
    converters.add(SecretStr, lambda word: word.get_secret_value()[::-1], lambda v: SecretStr(v))
    codec = PayloadCodec(converters=converters)
    around = Around(inner=[Hidden(word="ab")])
    assert '"ba"' in codec.encode(around)
    found = codec.as_type(codec.decode(codec.encode(around)), Around, "it")
    assert found.inner[0].word.get_secret_value() == "ba"


# -- what counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "counts"),
    [
        (int, False),
        (str, False),
        (dict, False),
        (list, False),
        (Any, False),
        (dict[str, Any], False),
        (list[int], False),
        (int | None, False),
        (tuple, False),
        (tuple[int, int], True),
        (set[int], True),
        (list[Colour], True),
        (Leaf, True),
        (Model | None, True),
        (dict[str, list[Model]], True),
        (UUID, True),
        (Path, True),
        (object, False),
    ],
)
def test_only_annotations_with_such_a_type_in_them_count(annotation, counts):
    assert is_looked_at(annotation, Converters()) is counts


def test_the_first_complaint_says_where():
    with pytest.raises(PayloadError, match=r"^it does not fit: 1\.colour: "):
        leaf = {"name": "a", "colour": "red", "within": 1}
        PayloadCodec().as_type([leaf, leaf | {"colour": "no"}], list[Leaf], "it")


def test_pickle_does_none_of_this():
    codec = PayloadCodec("pickle", accept=["pickle"])
    leaf = Leaf("a", Colour.RED, timedelta(1))
    assert codec.decode(codec.encode(leaf)) == leaf
    assert codec.as_type("anything", Leaf, "it") == "anything"
    assert codec.encode_call("t", (leaf,), {})[1][0] is leaf


@pytest.mark.parametrize("serializer", ["json", "yaml"])
def test_what_was_skipped_is_null(serializer):
    codec = PayloadCodec(serializer, accept=[serializer])
    assert codec.decode(codec.encode({"found": [1, SKIPPED]})) == {"found": [1, None]}


def test_keys_that_become_the_same_are_refused():
    with pytest.raises(PayloadError, match="the same in JSON"):
        PayloadCodec().encode([{Colour.RED: 1, "red": 2}])
    assert PayloadCodec().encode({Colour.RED: 1, UUID(int=1): 2}) == (
        '{"red": 1, "00000000-0000-0000-0000-000000000001": 2}'
    )


def test_the_part_that_is_refused_is_named_and_not_one_beside_it():
    leaf = Leaf("a", Colour.RED, timedelta(1))
    with pytest.raises(PayloadError, match=r"a value\[1\] of type builtins.object"):
        PayloadCodec().encode([leaf, object()])


def test_a_class_itself_is_no_value():
    for odd in (Leaf, Model, Colour, object()):
        with pytest.raises(PayloadError):
            PayloadCodec().encode([odd])


@pytest.mark.parametrize("kind", [Mock, MagicMock])
def test_a_mock_is_refused_without_being_asked(kind: type[Mock]) -> None:
    mock = kind()
    with pytest.raises(PayloadError, match=kind.__name__):
        PayloadCodec("json").encode(mock)
    assert mock.mock_calls == []
