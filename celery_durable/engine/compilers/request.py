"""What a commit writes for an answer to a request: a row that its asker reads."""

from __future__ import annotations

from ...core.kinds import AnswerRequest
from ...core.names import request_key
from ..draft import CommitDraft
from ..records import Answer
from ..writes import NewAnswer

__all__ = ["answer_request"]


def answer_request(draft: CommitDraft, command: AnswerRequest) -> None:
    """Keep the answer where the asker finds it, also after the end."""
    draft.commit.answers.append(
        NewAnswer(request_key(command.request_id), Answer(command.payload, command.has_failed))
    )
