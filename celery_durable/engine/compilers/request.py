"""What a commit writes for an answer to a request: a row that its asker reads."""

from __future__ import annotations

from collections.abc import Iterable

from ...core.history import Event, EventKind
from ...core.kinds import AnswerRequest
from ...core.names import request_key
from ..draft import CommitDraft
from ..records import UNANSWERED, Answer
from ..writes import NewAnswer

__all__ = ["answer_request", "dropped", "unanswered"]


def answer_request(draft: CommitDraft, command: AnswerRequest) -> None:
    """Keep the answer where the asker finds it, also after the end."""
    draft.commit.answers.append(
        NewAnswer(request_key(command.request_id), Answer(command.payload, command.has_failed))
    )


def unanswered(ids: Iterable[str]) -> list[NewAnswer]:
    """Return what is told of requests that get no answer any more, by their ids."""
    return [NewAnswer(request_key(id_), UNANSWERED) for id_ in ids]


def dropped(events: Iterable[Event]) -> list[NewAnswer]:
    """Return what is told of the requests among messages that the next execution is not to have."""
    kind = EventKind.REQUEST_RECEIVED
    return unanswered(str((each.facts or {}).get("id")) for each in events if each.kind is kind)
