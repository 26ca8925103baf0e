"""One entity by itself: messages in, messages out, and what it keeps between them."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest

from celery_durable.core.entity import (
    MESSAGE,
    Declaration,
    Entity,
    Operation,
    current_operation,
    declaration_of,
    declare,
    entity_id,
    id_of,
)
from celery_durable.core.names import parts_of_id
from celery_durable.errors import ConfigurationError, DurableError, LockLost, PayloadError
from celery_durable.payload import PayloadCodec

CODEC = PayloadCodec()


class Box:
    items = None

    def put(self, item: Any) -> int:
        self.items = [*(self.items or []), item]
        self._size = len(self.items)
        return self._size

    def clear(self) -> None:
        self.items = None

    def fail(self) -> None:
        self.items.append("half done")
        raise KeyError("no")

    def wait(self) -> Any:
        async def never() -> None:
            pass

        return never()

    @staticmethod
    def fixed() -> int:
        return 7

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    @property
    def size(self) -> int:
        return len(self.items)


class Driver:
    """An entity that is saved and brought back between any two messages."""

    def __init__(self, cls: type = Box) -> None:
        self.declaration: Declaration = declare(cls)
        self.kept: Any = None
        self.now = 1_000
        self.sent: list[tuple[str, str, Any, int | None]] = []

    def __call__(self, message: Any) -> list[Any]:
        """Take a message and return the values of the answers."""
        entity = Entity(self.declaration, CODEC, "@Box@k", CODEC.decode(CODEC.encode(self.kept)))
        self.now += 1
        out = entity.take(message, self.now)
        self.kept = entity.saved()
        self.sent = [(each.to, each.name, CODEC.decode(each.payload), each.due) for each in out]
        return [content for _, _, content, _ in self.sent]

    def result(self, op: str, *args: Any, **more: Any) -> Any:
        (answer,) = self({"op": op, "args": list(args), "reply": ["caller", "r"], **more})
        assert self.sent[0][:2] == ("caller", "r")
        return answer["result"]

    def failure(self, op: str, *args: Any, **more: Any) -> BaseException:
        (answer,) = self({"op": op, "args": list(args), "reply": ["caller", "r"], **more})
        return CODEC.decode_failure(answer["failure"])[0]

    def lock(self, wish: str, **more: Any) -> list[Any]:
        return self({"lock": wish, "reply": [wish, "granted"], **more})


def held(wish: str, number: int) -> dict[str, Any]:
    return {"held": wish, "number": number}


# -- operations ------------------------------------------------------------------------------------


def test_state_is_the_public_attributes() -> None:
    box = Driver()
    assert [box.result("put", "a"), box.result("put", "b")] == [1, 2]
    assert box.kept["state"] == {"items": ["a", "b"]}
    assert [box.result("fixed"), box.result("named")] == [7, "Box"]


def test_a_signal_is_not_answered() -> None:
    box = Driver()
    assert box({"op": "put", "args": ["a"]}) == []
    assert box({"op": "fail"}) == []
    assert box.kept["state"] == {"items": ["a"]}


@pytest.mark.parametrize(
    "op, error",
    [
        ("fail", KeyError),
        ("size", AttributeError),
        ("items", AttributeError),
        ("_size", AttributeError),
        ("__init__", AttributeError),
        ("missing", AttributeError),
        ("wait", TypeError),
        ("put", TypeError),
    ],
)
def test_what_fails_is_told_and_changes_nothing(op: str, error: type) -> None:
    box = Driver()
    box.result("put", "a")
    before = dict(box.kept)
    assert type(box.failure(op)) is error
    assert box.kept == before


def test_what_cannot_be_kept_or_returned_changes_nothing() -> None:
    box = Driver()
    assert isinstance(box.failure("put", 1, kwargs={"item": 2}), TypeError)

    class Odd:
        def keep(self) -> None:
            self.thing = object()

        def give(self) -> object:
            self.count = 1
            return object()

    odd = Driver(Odd)
    assert "left a state with" in str(odd.failure("keep"))
    assert "returned" in str(odd.failure("give"))
    assert odd.kept["state"] is None
    odd({"op": "give"})  # nobody wants the result
    assert odd.kept["state"] == {"count": 1}


def test_init_gives_what_is_new_in_the_code() -> None:
    @dataclasses.dataclass
    class Old:
        name: str = "x"

        def touch(self) -> None:
            self.name += "!"

    @dataclasses.dataclass
    class New:
        name: str = "x"
        age: int = 3

        def touch(self) -> None:
            self.age += 1

    entity = Driver(Old)
    entity.result("touch")
    assert entity.kept["state"] == {"name": "x!"}
    entity.declaration = declare(New)
    entity.result("touch")
    assert entity.kept["state"] == {"name": "x!", "age": 4}


def test_empty_is_what_the_class_begins_with() -> None:
    box = Driver()
    box.result("put", 1)
    assert not box.kept.get("empty")
    box.result("clear")
    assert box.kept["empty"] and box.kept["state"] == {"items": None}


def test_a_copy_of_a_signal_counts_once_for_a_while() -> None:
    box = Driver()
    for _ in range(3):
        box({"op": "put", "args": ["a"], "id": "1"})
    assert box.kept["state"] == {"items": ["a"]}
    for n in range(300):
        box({"op": "clear", "id": f"n{n}"})
    assert len(box.kept["seen"]) == 256
    box.now += 61_000_000
    box({"op": "clear", "id": "last"})
    assert list(box.kept["seen"]) == ["last"]


@pytest.mark.parametrize(
    "kept",
    [3, {"state": 3}, {"number": "x"}, {"lock": [1, 2, 3, 4, 5, 6]}, {"seen": 3}, {"aside": 3}],
)
def test_damage_is_told(kept: Any) -> None:
    with pytest.raises(PayloadError, match="@Box@k"):
        Entity(declare(Box), CODEC, "@Box@k", kept)


# -- locks -----------------------------------------------------------------------------------------


def test_a_lock_lets_its_holder_in_and_keeps_the_rest_in_order() -> None:
    box = Driver()
    (granted,) = box.lock("w1")
    number = granted["result"]
    assert box({"op": "put", "args": ["other"], "reply": ["o", "r"]}) == []
    assert box.lock("w2") == []
    assert box({"op": "put", "args": ["late"], "reply": ["l", "r"]}) == []
    assert box.result("put", "own", **held("w1", number)) == 1
    answers = box({"unlock": "w1"})
    assert [to for to, *_ in box.sent] == ["o", "w2"]
    assert answers[0]["result"] == 2 and answers[1]["result"] > number
    assert box({"unlock": "w2"}) == [{"result": 3}]
    assert box.kept["state"] == {"items": ["own", "other", "late"]}
    assert "lock" not in box.kept and "queue" not in box.kept


def test_a_wish_is_heard_once_and_can_be_withdrawn() -> None:
    box = Driver()
    assert len(box.lock("w1")) == 1
    assert box.lock("w1") == box.lock("w2") == box.lock("w2") == []
    assert len(box.kept["queue"]) == 1
    box.lock("w3")
    assert box({"unlock": "w2"}) == []
    assert box({"unlock": "unknown"}) == []
    assert [to for to, *_ in (box({"unlock": "w1"}), box.sent)[1]] == ["w3"]


def test_an_operation_under_a_lock_that_is_lost_is_refused() -> None:
    box = Driver()
    number = box.lock("w1")[0]["result"]
    box({"unlock": "w1"})
    error = box.failure("put", "late", **held("w1", number))
    assert isinstance(error, LockLost) and isinstance(error, DurableError)
    assert (error.entity_id, error.number) == ("@Box@k", number)
    box.lock("w2")
    assert isinstance(box.failure("put", "late", **held("w1", number)), LockLost)
    assert box.kept["state"] is None


def test_a_lease_is_looked_at_when_someone_waits() -> None:
    box = Driver()
    number = box.lock("w1", lease=1000)[0]["result"]
    until = box.now + 1000
    assert box({"op": "put", "args": ["a"]}) == [{"look": number}]
    assert box.sent[0] == ("@Box@k", MESSAGE, {"look": number}, until)
    assert box.lock("w2") == []  # one look is enough
    box.now = until - 2
    assert box({"look": number}) == [] and box.kept["lock"][0] == "w1"
    box.now = until
    answers = box({"look": number})
    assert answers[0]["result"] > number
    assert box.kept["state"] == {"items": ["a"]} and box.kept["lock"][0] == "w2"
    assert box({"look": number}) == [] and box.kept["lock"][0] == "w2"


def test_a_lease_that_is_over_ends_by_whatever_comes_first() -> None:
    box = Driver()
    number = box.lock("w1", lease=10)[0]["result"]
    box.now += 1000
    assert box.result("put", "own", **held("w1", number)) == 1  # nobody waits
    assert box.result("put", "other") == 2
    assert isinstance(box.failure("put", "late", **held("w1", number)), LockLost)
    number = box.lock("w2", lease=10)[0]["result"]
    box({"op": "put", "args": ["b"]})
    box.now += 1000
    (answer,) = box({"op": "put", "args": ["c"], "reply": ["caller", "r"], **held("w2", number)})
    assert "failure" in answer
    assert box.kept["state"] == {"items": ["own", "other", "b"]}


def test_numbers_grow_also_when_all_is_forgotten() -> None:
    box = Driver()
    first = box.lock("w1")[0]["result"]
    box.kept = None
    assert box.lock("w2")[0]["result"] > first


# -- declarations and names ------------------------------------------------------------------------


def test_names() -> None:
    assert parts_of_id(entity_id("Box", "a@b")) == ("Box", "a@b")
    assert (
        parts_of_id("order-42") is None
        and parts_of_id("@Box") is None
        and parts_of_id("@@x") is None
    )
    declaration = declare(Box, "shop.Box")
    assert declaration_of(Box) is declaration
    assert id_of(Box, "k") == ("@shop.Box@k", declaration)
    assert id_of("Box", "k") == ("@Box@k", None)

    class Smaller(Box):
        pass

    with pytest.raises(TypeError, match="Smaller is no entity"):
        id_of(Smaller, "k")
    assert len(entity_id("Box", "x" * 145)) == 150
    with pytest.raises(ValueError):
        entity_id("Box", "x" * 146)


def test_what_cannot_be_an_entity_is_refused() -> None:
    class Waits:
        async def op(self) -> None:
            pass

    class Wrapped:
        @functools.wraps(Waits.op)
        def op(self) -> None:
            pass

    class Yields:
        def op(self) -> Any:
            yield

    class Needs:
        def __init__(self, x: int) -> None:
            pass

    class Slots:
        __slots__ = ("x",)

        def __init__(self) -> None:
            self.x = 1

    class Taken:
        def signal(self) -> None:
            pass

    for cls, why in (
        (Waits, "plain method"),
        (Wrapped, "plain method"),
        (Yields, "plain method"),
        (Needs, "without arguments"),
        (Slots, "__slots__"),
        (Taken, "a reference has that"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            declare(cls)
        assert "__durable_entity__" not in cls.__dict__
    for name in ("", "a b", "1x", "x" * 61, 3):
        with pytest.raises(ConfigurationError, match="a name begins with"):
            declare(Box, name)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        declare(lambda: None)


# -- classes that answer to any name ---------------------------------------------------------------


class Echo:
    last: Any = None

    def known(self) -> str:
        return "known"

    def __getattr__(self, name: str) -> Any:
        def operation(*args: Any) -> list[Any]:
            if name == "tell":
                current_operation().signal("@Other@k", {"op": "add"}, 5)
            if args and args[0] == "fail":
                raise ValueError("no")
            self.last = name
            return [name, current_operation().name, current_operation().entity_id, *args]

        return operation


def test_a_class_with_getattr_takes_any_public_operation() -> None:
    entity = Entity(declare(Echo), CODEC, "@Echo@k")
    (answer,) = entity.take({"op": "anything", "args": [1], "reply": ["i", "r"]}, 0)
    assert CODEC.decode(answer.payload) == {"result": ["anything", "anything", "@Echo@k", 1]}
    assert entity.state_value == {"last": "anything"}
    (answer,) = entity.take({"op": "_private", "reply": ["i", "r"]}, 0)
    assert "no operation '_private'" in answer.payload
    declaration_of(Echo).check_arguments("anything", (1, 2), {})


def test_an_operation_signals_other_entities_only_if_it_succeeds() -> None:
    entity = Entity(declare(Echo), CODEC, "@Echo@k")
    assert entity.take({"op": "tell", "args": ["fail"]}, 0) == []
    (signal,) = entity.take({"op": "tell"}, 0)
    assert (signal.to, signal.name, signal.due, signal.creates) == (
        "@Other@k",
        MESSAGE,
        5,
        "celery_durable.entity.Other",
    )
    assert CODEC.decode(signal.payload) == {"op": "add"}


def test_outside_an_operation_there_is_none() -> None:
    with pytest.raises(LookupError):
        current_operation()
    with pytest.raises(ValueError, match="'i' is not the id of an entity"):
        Operation("@Echo@k", "tell", CODEC).signal("i", {"op": "add"})
