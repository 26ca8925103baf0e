"""Values as Azure's libraries pass them: whatever goes out comes back as the type that the code
names.
"""

from __future__ import annotations

import enum
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.azure.values import incoming, outgoing, parameter_type, return_type
from celery_durable.payload import PayloadCodec

CODEC = PayloadCodec()


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


@dataclass
class Leaf:
    number: int
    text: str = ""


@dataclass
class Tree:
    leaves: list[Leaf]
    first: Leaf | None
    named: dict[str, Leaf]
    colour: Colour | None = None
    when: datetime | date | None = None
    id: UUID | None = None
    price: Decimal | None = None
    pair: tuple[Leaf, ...] = ()
    below: list[Tree] = field(default_factory=list)
    anything: Any = None


@dataclass
class Base:
    leaf: Leaf


@dataclass
class Odd(Base):
    odd: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Speaking:
    """A class that writes and reads itself."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Speaking) and self.word == other.word

    def to_json(self) -> dict[str, str]:
        return {"word": self.word}

    @classmethod
    def from_json(cls, data: dict[str, str]) -> Speaking:
        return cls(data["word"])


class Writing:
    """A class that only writes itself."""

    def to_json(self) -> list[int]:
        return [1]


@dataclass
class Plain:
    """A class that tells kombu how to write it."""

    number: int

    def __json__(self) -> int:
        return self.number


class Model:
    """What Pydantic's models have."""

    def __init__(self, number: int) -> None:
        self.number = number

    def model_dump(self, *, mode: str) -> dict[str, int]:
        assert mode == "json"
        return {"number": self.number}

    @classmethod
    def model_validate(cls, data: dict[str, int]) -> Model:
        return cls(data["number"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.number == other.number


OLD_OPTIONAL, OLD_UNION = (typing.Optional[Leaf], typing.Union[int, Leaf])  # noqa: UP007, UP045  # as annotations may be written


def sent(value: Any) -> Any:
    """Return a value as it is received after it was kept as JSON."""
    return CODEC.decode(CODEC.encode(outgoing(value)))


leaves = st.builds(Leaf, st.integers(), st.text())
trees = st.recursive(
    st.builds(
        Tree,
        st.lists(leaves),
        st.none() | leaves,
        st.dictionaries(st.text(), leaves),
        st.none() | st.sampled_from(Colour),
        st.none() | st.datetimes() | st.dates(),
        st.none() | st.uuids(),
        st.none() | st.decimals(allow_nan=False, allow_infinity=False),
        st.lists(leaves).map(tuple),
        anything=st.none() | st.integers() | st.text() | st.builds(Speaking, st.text()),
    ),
    lambda below: st.builds(
        Tree, st.just([]), st.none(), st.just({}), below=st.lists(below, max_size=3)
    ),
    max_leaves=6,
)


@given(trees)
def test_a_dataclass_comes_back_as_it_was(tree: Tree) -> None:
    assert incoming(sent(tree), Tree) == tree
    assert incoming(sent([tree]), list[Tree]) == [tree]
    assert incoming(sent({"one": tree}), dict[str, Tree]) == {"one": tree}


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.datetimes()
    | st.uuids(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(plain)
def test_what_is_plain_is_left_alone(value: Any) -> None:
    assert incoming(sent(value)) == value == outgoing(value)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (Leaf(1), OLD_OPTIONAL),
        (None, OLD_OPTIONAL),
        (Leaf(1), OLD_UNION),
        (3, OLD_UNION),
        ("x", str | Leaf),
        ([Leaf(1)], Sequence[Leaf]),
        ((Leaf(1), 2), tuple[Leaf, int]),
        ((1, 2), tuple),
        ({1, 2}, set[int]),
        ({"a": [Leaf(1)]}, Mapping[str, list[Leaf]]),
        (Colour.RED, Colour),
        (Leaf(2), Annotated[Leaf, "a leaf"]),
        (Speaking("hi"), Speaking),
        (Speaking("hi"), Any),
        ([Speaking("hi")], None),
        (Model(3), Model),
        ([Model(3)], list[Model]),
        (5, object),
        (5, int),
        ([1], list),
        ({"a": 1}, dict),
        (Decimal("1.5"), Decimal),
    ],
)
def test_types(value: Any, wanted: Any) -> None:
    received = sent(sorted(value) if isinstance(value, set) else value)
    made = incoming(received, wanted)
    assert made == value and type(made) is type(value)


@pytest.mark.parametrize(
    ("text", "wanted", "made"),
    [
        ("2030-01-02T03:04:05", datetime, datetime(2030, 1, 2, 3, 4, 5)),
        ("2030-01-02", date, date(2030, 1, 2)),
        (
            "9d3e2c52-3d2c-4f5e-9d3e-2c523d2c4f5e",
            UUID,
            UUID("9d3e2c52-3d2c-4f5e-9d3e-2c523d2c4f5e"),
        ),
        ("1.5", Decimal, Decimal("1.5")),
        ("r", Colour | None, Colour.RED),
        ("text", str, "text"),
        ("text", list[int], "text"),
    ],
)
def test_texts_of_events_that_came_by_http(text: str, wanted: Any, made: Any) -> None:
    assert incoming(text, wanted) == made


@pytest.mark.parametrize("wanted", [Leaf, Colour, Leaf | Colour, list[Leaf]])
def test_what_does_not_fit_says_so(wanted: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        incoming([{"other": 1}] if wanted == list[Leaf] else {"other": 1}, wanted)
    with pytest.raises(TypeError, match="the payload with other is no Leaf: .*'number'"):
        incoming({"other": 1}, Leaf)


def test_a_payload_imports_nothing_and_makes_only_what_reads_itself() -> None:
    assert "antigravity" not in sys.modules
    for module, cls in (
        ("antigravity", "x"),
        ("subprocess", "Popen"),
        ("builtins", "int"),
        (__name__, "Leaf"),
        (5, None),
    ):
        tagged = {"__class__": cls, "__module__": module, "__data__": "1"}
        assert incoming(tagged) == tagged
    assert "antigravity" not in sys.modules


def test_other_shapes_go_out_as_json() -> None:
    assert sent([Writing(), SimpleNamespace(a=Leaf(1)), (1, 2)]) == [
        [1],
        {"a": {"number": 1, "text": ""}},
        [1, 2],
    ]
    assert sent([Plain(7)]) == [7]


def test_what_code_says_of_its_types() -> None:
    def typed(ctx: Any, leaf: Leaf) -> list[Leaf]:
        raise NotImplementedError

    def puzzling(ctx: Any, leaf: Nowhere) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        raise NotImplementedError

    assert (parameter_type(typed, 1), return_type(typed)) == (Leaf, list[Leaf])

    def half(ctx: Nowhere, leaf: Leaf) -> list[Leaf]:  # type: ignore[name-defined]  # noqa: F821
        raise NotImplementedError

    assert (parameter_type(puzzling, 1), return_type(puzzling)) == (None, None)
    assert (parameter_type(half, 0), parameter_type(half, 1), return_type(half)) == (
        None,
        Leaf,
        list[Leaf],
    )
    assert incoming({"leaf": {"number": 1}, "odd": 2, "more": None}, Odd) == Odd(Leaf(1), 2)
    assert (parameter_type(typed, 2), parameter_type(5, 0), return_type(5)) == (None, None, None)
