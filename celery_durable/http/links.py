"""One-time links for people: a signed address whose page asks a question, and whose answer is an
external event.

Opening the page changes nothing, since mail scanners open links; the answer is a POST. What may be
answered is in the signed link. It works once: the event has an id that is made from the link, so
that it counts once whatever is sent how often, and it belongs to one execution, so that it means
nothing to a later execution under the same id.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import isfinite
from typing import Any
from urllib.parse import parse_qs, quote

from ..core.flags import check_flags, is_number
from ..core.retry import Interval
from ..engine.audit import acting
from ..engine.verb import Surface
from ..engine.verbs.events import answered
from ..errors import InstanceNotFound, InvalidState
from .link_pages import ANSWERED, CSS, ENDED, FORGED, PAGE_HEADERS, Page
from .messages import Problem, Request, Response
from .routes import read_body
from .signing import BadLink, ItsDangerousSigner, Signer

__all__ = [
    "APPROVALS",
    "LARGEST_FORM",
    "PAGE_HEADERS",
    "STYLESHEET",
    "BadLink",
    "EventLinks",
    "ItsDangerousSigner",
    "Page",
    "Signer",
]

APPROVALS = "approvals/"
STYLESHEET = f"{APPROVALS}style.css"
_LONGEST = 1800
LARGEST_FORM = 64 * 1024
_WEEK = 7 * 86_400


@dataclass(frozen=True)
class _Link:
    """What is signed."""

    instance_id: str
    execution: str
    event: str
    choices: Sequence[tuple[str, Any]]
    title: str
    until: int
    key: str

    def packed(self) -> list[Any]:
        choices = [list(choice) for choice in self.choices]
        return [
            1,
            self.instance_id,
            self.execution,
            self.event,
            choices,
            self.title,
            self.until,
            self.key,
        ]

    @staticmethod
    def unpacked(value: Any) -> _Link:
        version, instance_id, execution, event, choices, title, until, key = value
        if version != 1:
            raise ValueError("another version")
        return _Link(
            instance_id,
            execution,
            event,
            [(label, data) for label, data in choices],
            title,
            until,
            key,
        )

    @property
    def event_id(self) -> str:
        """The id that makes the event count once."""
        text = "\n".join((self.execution, self.event, self.key))
        return f"link:{hashlib.sha256(text.encode()).hexdigest()[:40]}"


@dataclass
class EventLinks:
    """Makes signed links, and answers those who open them.

    Args:
        durable: where the orchestrations are.
        signer: ``ItsDangerousSigner(secret)``, or another one.
        base_url: the absolute URL below which the pages are served, such as
            ``https://shop.example/durable/``.

    Raises:
        TypeError: an argument is of another kind, as when two of them are swapped.
    """

    durable: Any
    signer: Signer
    base_url: str = "/"
    clock: Callable[[], float] = field(default=time.time, repr=False)

    def __post_init__(self) -> None:
        for name, is_one, words in (
            ("durable", hasattr(type(self.durable), "runtime"), "where the orchestrations are"),
            ("signer", hasattr(self.signer, "loads"), "ItsDangerousSigner(secret), or another one"),
            ("base_url", isinstance(self.base_url, str), "the URL below which pages are served"),
        ):
            if not is_one:
                raise TypeError(f"EventLinks: {name} is {words}, not {getattr(self, name)!r}")

    def signed_event_url(
        self,
        instance_id: str,
        event: str,
        choices: Mapping[str, Any] | None = None,
        *,
        max_age: Interval = _WEEK,
        title: str = "Please confirm",
        key: str | None = None,
    ) -> str:
        """Return a link whose page asks a question, and raises an event with the answer, once.

        All who have the link may answer. They can read what it holds, and cannot change it.

        Args:
            instance_id: of an orchestration that is committed and not over.
            event: what it waits for by ``ctx.wait_event(event)``.
            choices: what a person may answer: the label of the button to the payload of the event.
            max_age: seconds or ``timedelta``.
            title: the question.
            key: links with the same key count as one: once one of them was used, so are the others.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it is over.
            TypeError: ``choices`` are no mapping, ``max_age`` is no time, or ``title`` or ``key``
                is no text.
            ValueError: there are no choices, ``max_age`` is not positive or not finite, or the link
                would be too long for a mail.
        """
        if choices is not None and not isinstance(choices, Mapping):
            raise TypeError(
                "choices are a mapping, of the text of a button to the event's payload, not"
                f" {choices!r}"
            )
        for name, text in (("title", title), ("key", key)):
            if text is not None and not isinstance(text, str):
                raise TypeError(f"{name} must be a text, not {text!r}")
        if not isinstance(max_age, timedelta) and not is_number(max_age):
            raise TypeError(f"max_age must be seconds or a timedelta, not {max_age!r}")
        offered = {"Confirm": None} if choices is None else dict(choices)
        seconds = max_age.total_seconds() if isinstance(max_age, timedelta) else float(max_age)
        if not isfinite(seconds):
            raise ValueError(f"max_age must be finite, not {max_age!r}")
        if not offered or not all(isinstance(label, str) and label for label in offered):
            raise ValueError(
                "a link needs at least one choice: the text of a button, and the event's payload"
            )
        if seconds <= 0:
            raise ValueError(f"max_age must be more than 0 seconds, not {seconds}")
        record = self.durable.runtime.client.fetch(instance_id)
        if record.status.is_terminal:
            raise InvalidState(
                f"orchestration {instance_id!r} is {record.status}: no code waits for an answer",
                instance_id=instance_id,
                status=record.status,
            )
        self.durable.runtime.client.event_message(instance_id, event, None, "check")
        link = _Link(
            instance_id,
            record.execution,
            event,
            list(offered.items()),
            title,
            int(self.clock() + seconds),
            secrets.token_hex(8) if key is None else key,
        )
        token = self.signer.dumps(link.packed())
        if len(token) > _LONGEST:
            raise ValueError(
                f"the link would have {len(token)} characters, more than {_LONGEST}: give the"
                " choices smaller payloads"
            )
        return f"{self.base_url.rstrip('/')}/{APPROVALS}{quote(token, safe='-_.:=~')}"

    # -- serving -----------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request for a page or its style.

        None if it is for something else.
        """
        if not request.path.startswith(APPROVALS):
            return None
        if request.method not in ("GET", "HEAD", "POST"):
            raise Problem(
                405, "this address takes GET and POST", headers={"Allow": "GET, HEAD, POST"}
            )
        if request.path == STYLESHEET:
            response = self.style()
        else:
            choice = _choice_in(request) if request.method == "POST" else None
            token = request.path.removeprefix(APPROVALS)
            page = self.page(
                token,
                f"{request.base}{STYLESHEET}",
                is_answer=request.method == "POST",
                choice=choice,
            )
            response = page.response()
        return response.without_body() if request.method == "HEAD" else response

    @staticmethod
    def style() -> Response:
        """Return the style of the pages."""
        return Response(
            200, CSS.encode(), {"Cache-Control": "max-age=3600"}, "text/css; charset=utf-8"
        )

    def page(
        self,
        token: str,
        stylesheet: str = "",
        *,
        is_answer: bool = False,
        choice: str | None = None,
    ) -> Page:
        """Return what a person is shown; an answer raises the event first.

        Args:
            token: the end of the address.
            stylesheet: the address of the style.
            is_answer: whether a button was pressed (a POST), rather than the page opened.
            choice: the number of the button.
        """
        check_flags(is_answer=is_answer)
        return replace(self._page(token, is_answer, choice), stylesheet=stylesheet)

    def _page(self, token: str, is_answer: bool, choice: str | None) -> Page:
        try:
            link = _Link.unpacked(self.signer.loads(token))
        except (BadLink, ValueError, TypeError):
            return FORGED
        if (closed := self._closed(link)) is not None:
            return closed
        labels = [label for label, _ in link.choices]
        if not is_answer:
            return Page(200, link.title, "", labels)
        if choice is None or choice not in [str(number) for number in range(len(labels))]:
            return Page(400, link.title, "Please choose one of the answers.", labels)
        return self._raise(link, *link.choices[int(choice)])

    def _closed(self, link: _Link) -> Page | None:
        """Return why a link cannot be used any more, or None if it can."""
        if self.clock() > link.until:
            return Page(410, "This link has expired", "Please ask for a new one.")
        try:
            record = self.durable.runtime.client.fetch(link.instance_id)
        except InstanceNotFound:
            return ENDED
        if record.execution != link.execution:
            return ENDED
        if self._recorded(link) is not None:
            return ANSWERED
        return ENDED if record.status.is_terminal else None

    def _recorded(self, link: _Link) -> list[Any] | None:
        """Return the answer that was given already, in a list of one; None if there is none."""
        runtime = self.durable.runtime
        payload = answered(runtime.client, link.instance_id, link.event_id)
        return None if payload is None else [runtime.codec.decode(payload)]

    def _raise(self, link: _Link, label: str, data: Any) -> Page:
        try:
            with acting("approval link", Surface.HTTP):  # all who have it may answer
                self.durable.runtime.client.answer(
                    link.instance_id, link.execution, link.event, data, link.event_id
                )
        except (InvalidState, InstanceNotFound):
            return ENDED
        recorded = self._recorded(link)
        if recorded is not None and recorded != [data]:  # another person was faster
            return ANSWERED
        return Page(200, "Thank you", f"Your answer was recorded: {label}")


def _choice_in(request: Request) -> str | None:
    """Return the number of the button that was pressed, as the form says it."""
    raw = read_body(request, LARGEST_FORM)
    try:
        (text,) = parse_qs(raw.decode("ascii"), max_num_fields=20)["choice"]
    except (ValueError, KeyError):
        return None
    return text
