"""The instance of a sub-orchestration, and what its parent asks of it."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.core.canvas_options import CanvasOptions
from celery_durable.core.history import EventKind
from celery_durable.core.kinds import CancelChild, ReattachChild, StartChild
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.compilers.child import cancel_child, reattach_child, start_child
from celery_durable.engine.observers import PropagatedContext
from celery_durable.engine.records import InboxKind, InstanceEnd
from celery_durable.engine.writes import ChildInstance, NewInbox, Revival
from celery_durable.errors import ConfigurationError, InstanceExists, InstanceNotFound
from celery_durable.settings import Settings

from .drafts import CODEC, Asked, new_draft


def child(*, expires: int | None = None, options: Any = (), **more: Any) -> ChildInstance:
    draft = new_draft(**more)
    start_child(draft, StartChild(3, 2, "part", "c", "[[], {}]", dict(options), expires=expires))
    [made] = draft.commit.children
    return made


def error_in(message: NewInbox | None) -> BaseException:
    assert message is not None and message.payload is not None
    found: BaseException = CODEC.decode_failure(message.payload)[0]
    return found


# -- started ---------------------------------------------------------------------------------------


def test_it_knows_its_parent_its_place_and_its_version() -> None:
    made = child()
    assert (made.id, made.name, made.version) == ("c", "part", "part.version")
    assert (made.queue, made.input) == ("part.queue", "[[], {}]")
    parent = made.parent_id, made.parent_execution, made.parent_command, made.parent_attempt
    assert parent == ("i", "e", 3, 2)
    assert made.execution != "e"


@pytest.mark.parametrize(("root", "expected"), [(None, "i"), ("top", "top")])
def test_its_root_is_that_of_its_parent_or_the_parent(root: str | None, expected: str) -> None:
    assert child(root_id=root).root_id == expected


@pytest.mark.parametrize(
    ("carried", "expires", "facts"),
    [({}, None, None), ({"trace": "t"}, None, {"trace": "t"}), ({}, 5, {"expires": 5})],
)
def test_its_start_notes_its_trace_and_until_when_it_is_worth_something(
    carried: dict[str, Any], expires: int | None, facts: dict[str, Any] | None
) -> None:
    assert child(expires=expires, carried=PropagatedContext(child=carried)).facts == facts


def test_if_its_id_is_taken_the_parent_hears_of_that_as_of_its_failure() -> None:
    refusal = child().refusal
    assert refusal is not None
    assert (refusal.instance, refusal.kind, refusal.dedup) == (
        "i",
        EventKind.CHILD_FAILED,
        "child:e:3:2",
    )
    error = error_in(refusal)
    assert isinstance(error, InstanceExists)
    assert "cannot start part as 'c'" in str(error)


def test_headers_of_this_call_that_travel_come_before_those_of_the_parent() -> None:
    kept = CanvasOptions.of_start({}).with_context({"headers": {"who": "ann", "why": "x"}}).kept
    made = child(
        canvas=CODEC.encode(kept),
        settings=Settings(propagate=("who",)),
        options={"headers": {"who": "bob", "own": 1}},
    )
    context = CanvasOptions.read(CODEC, made.canvas).context
    assert context == {"headers": {"who": "bob", "why": "x"}}


def test_a_place_that_cannot_be_told_is_the_configuration_of_this_app() -> None:
    class Broken(Asked):
        def place(self, name: str, options: Any, arguments: Any) -> tuple[str, Any]:
            raise KeyError("no such queue")

    with pytest.raises(ConfigurationError, match=r"'c' \(part\) cannot be sent anywhere.*KeyError"):
        child(asked=Broken())


# -- asked -----------------------------------------------------------------------------------------


def revival(*, rewinds: bool) -> Revival:
    draft = new_draft()
    reattach_child(draft, ReattachChild(3, 2, "c", rewinds))
    [found] = draft.commit.revivals
    return found


def test_one_that_may_have_failed_is_asked_to_rewind_once() -> None:
    assert revival(rewinds=False).request is None
    request = revival(rewinds=True).request
    assert request is not None
    assert (request.instance, request.kind, request.dedup) == (
        "c",
        InboxKind.REWIND,
        "rewind:e:1:3",
    )
    assert request.facts == {"reason": "its parent i was rewound", "asker": ["i", "e", 3, 2]}
    assert isinstance(error_in(request), InstanceNotFound)  # what the parent hears if it is gone


@pytest.mark.parametrize(
    ("end", "kind", "payload"),
    [
        (InstanceEnd(RuntimeStatus.COMPLETED, "5", None, None), EventKind.CHILD_COMPLETED, "5"),
        (InstanceEnd(RuntimeStatus.FAILED, None, "{}", None), EventKind.CHILD_FAILED, "{}"),
        (InstanceEnd(RuntimeStatus.TERMINATED, None, None, "why"), EventKind.CHILD_FAILED, None),
        (None, EventKind.CHILD_FAILED, None),
    ],
)
def test_its_parent_hears_how_it_ended(
    end: InstanceEnd | None, kind: EventKind, payload: str | None
) -> None:
    told = revival(rewinds=False).answer(end)
    assert (told.instance, told.kind, told.dedup) == ("i", kind, "child:e:3:2")
    if payload is not None:
        assert told.payload == payload
    else:
        assert ("TERMINATED" if end else "not there any more") in str(error_in(told))


def test_a_cancel_says_who_no_longer_wants_it() -> None:
    draft = new_draft()
    cancel_child(draft, CancelChild(3, 2, "c"))
    [message] = draft.commit.other_inboxes
    assert (message.instance, message.kind, message.dedup) == (
        "c",
        EventKind.CANCEL_REQUESTED,
        "cancel",
    )
    assert message.facts == {"reason": "its parent i no longer wants it"}
