"""One-time links for people: a signed address whose page asks a question, and whose answer is an external event.

Opening the page changes nothing, since mail scanners open links; the answer is a POST. What may be answered is in the signed
link. It works once: the event has an id that is made from the link, so that it counts once whatever is sent how often, and
it belongs to one execution, so that it means nothing to a later life under the same id.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from html import escape
from typing import Any, Protocol
from urllib.parse import parse_qs, quote

from ..core.events import EventKind
from ..core.retry import Interval
from ..errors import ConfigurationError, InstanceNotFound, InvalidState
from ..versions import demand
from .messages import Problem, Request, Response
from .routes import read_body

__all__ = ["APPROVALS", "BadLink", "EventLinks", "ItsDangerousSigner", "Page", "Signer"]

APPROVALS = "approvals/"
STYLESHEET = f"{APPROVALS}style.css"
_SALT = "celery_durable.link"
_LONGEST = 1800
LARGEST_FORM = 64 * 1024
_WEEK = 7 * 86_400
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}


class BadLink(Exception):
    """The link was not signed by us."""


class Signer(Protocol):
    """Puts a value into text that nobody else can make."""

    def dumps(self, value: Any) -> str:
        """Return URL-safe text."""

    def loads(self, text: str) -> Any:
        """Return the value again; raises ``BadLink`` if the text is not ours."""


class ItsDangerousSigner:
    """Signs with ``itsdangerous``.

    Args:
        secrets: the newest last; links are signed with that one, and read with any.

    Raises:
        ConfigurationError: a secret is shorter than 16 characters, or ``itsdangerous`` is not installed.
    """

    def __init__(self, *secrets: str) -> None:
        try:
            from itsdangerous import BadData, URLSafeSerializer

            demand("itsdangerous")
        except ImportError as error:
            raise ConfigurationError("signed links need itsdangerous: pip install 'celery-durable[http]'") from error
        if not secrets or any(len(each) < 16 for each in secrets):
            raise ConfigurationError("signed links need a secret of at least 16 characters")
        self._bad = BadData
        self._serializer = URLSafeSerializer(
            list(secrets), salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"}
        )

    def dumps(self, value: Any) -> str:
        """Return URL-safe text."""
        return str(self._serializer.dumps(value))

    def loads(self, text: str) -> Any:
        """Return the value again; raises ``BadLink`` if the text is not ours."""
        try:
            return self._serializer.loads(text)
        except self._bad as error:
            raise BadLink from error


@dataclass(frozen=True)
class Page:
    """What a person is shown.

    Attributes:
        status: the code.
        title: a line.
        message: a few more.
        choices: the labels of the buttons; none where nothing can be answered.
        stylesheet: its address.
    """

    status: int
    title: str
    message: str = ""
    choices: Sequence[str] = ()
    stylesheet: str = ""

    def html(self) -> str:
        """Return the page, plain: no script, and nothing inline."""
        buttons = "".join(
            f'<button type="submit" name="choice" value="{number}">{escape(label)}</button>\n'
            for number, label in enumerate(self.choices)
        )
        form = f'<form method="post">\n{buttons}</form>\n' if buttons else ""
        message = f"<p>{escape(self.message)}</p>\n" if self.message else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<title>{escape(self.title)}</title>\n<link rel="stylesheet" href="{escape(self.stylesheet)}">\n</head>\n'
            f"<body>\n<main>\n<h1>{escape(self.title)}</h1>\n{message}{form}</main>\n</body>\n</html>\n"
        )

    def response(self) -> Response:
        """Return the answer."""
        return Response(self.status, self.html().encode(), PAGE_HEADERS, "text/html; charset=utf-8")


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
        return [1, self.instance_id, self.execution, self.event, choices, self.title, self.until, self.key]

    @staticmethod
    def unpacked(value: Any) -> _Link:
        version, instance_id, execution, event, choices, title, until, key = value
        if version != 1:
            raise ValueError("another version")
        return _Link(instance_id, execution, event, [(label, data) for label, data in choices], title, until, key)

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
        base_url: the absolute URL below which the pages are served, such as ``https://shop.example/durable/``.
    """

    durable: Any
    signer: Signer
    base_url: str = "/"
    clock: Callable[[], float] = field(default=time.time, repr=False)

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

        Whoever has the link may answer. What it holds can be read by them, and cannot be changed.

        Args:
            instance_id: of an orchestration that is committed and not over.
            event: what it waits for by ``ctx.wait_event(event)``.
            choices: what a person may answer: the label of the button to the payload of the event.
            max_age: seconds or ``timedelta``.
            title: the question.
            key: links with the same key count as one: once one of them was used, so are the others.

        Raises:
            InstanceNotFound, InvalidState: there is none, or it is over.
            ValueError: there are no choices, ``max_age`` is not positive, or the link would be too long for a mail.
        """
        offered = {"Confirm": None} if choices is None else dict(choices)
        seconds = max_age.total_seconds() if isinstance(max_age, timedelta) else float(max_age)
        if not offered or not all(isinstance(label, str) and label for label in offered):
            raise ValueError("a link needs at least one choice: the text of a button, and the event's payload")
        if seconds <= 0:
            raise ValueError(f"max_age must be more than 0 seconds, not {seconds}")
        record = self.durable.runtime.client.fetch(instance_id)
        if record.status.is_terminal:
            raise InvalidState(
                f"orchestration {instance_id!r} is {record.status}: nobody waits for an answer",
                instance_id=instance_id, status=record.status,
            )  # fmt: skip
        self.durable.runtime.client.event_message(instance_id, event, None, "check")
        link = _Link(
            instance_id, record.execution, event, list(offered.items()), title, int(self.clock() + seconds),
            secrets.token_hex(8) if key is None else key,
        )  # fmt: skip
        token = self.signer.dumps(link.packed())
        if len(token) > _LONGEST:
            raise ValueError(
                f"the link would have {len(token)} characters, more than {_LONGEST}: give the choices smaller payloads"
            )
        return f"{self.base_url.rstrip('/')}/{APPROVALS}{quote(token, safe='-_.:=~')}"

    # -- serving ------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request for a page or its style; None if it is for something else."""
        if not request.path.startswith(APPROVALS):
            return None
        if request.method not in ("GET", "HEAD", "POST"):
            raise Problem(405, "this address takes GET and POST", headers={"Allow": "GET, HEAD, POST"})
        if request.path == STYLESHEET:
            response = self.style()
        else:
            choice = _choice_in(request) if request.method == "POST" else None
            token = request.path.removeprefix(APPROVALS)
            page = self.page(token, f"{request.base}{STYLESHEET}", is_answer=request.method == "POST", choice=choice)
            response = page.response()
        return response.without_body() if request.method == "HEAD" else response

    @staticmethod
    def style() -> Response:
        """Return the style of the pages."""
        return Response(200, _CSS.encode(), {"Cache-Control": "max-age=3600"}, "text/css; charset=utf-8")

    def page(self, token: str, stylesheet: str = "", *, is_answer: bool = False, choice: str | None = None) -> Page:
        """Return what a person is shown; an answer raises the event first.

        Args:
            token: the end of the address.
            stylesheet: the address of the style.
            is_answer: whether a button was pressed (a POST), rather than the page opened.
            choice: the number of the button.
        """
        return replace(self._page(token, is_answer, choice), stylesheet=stylesheet)

    def _page(self, token: str, is_answer: bool, choice: str | None) -> Page:
        try:
            link = _Link.unpacked(self.signer.loads(token))
        except (BadLink, ValueError, TypeError):
            return _FORGED
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
            return _OVER
        if record.execution != link.execution:
            return _OVER
        if self._recorded(link) is not None:
            return _ANSWERED
        return _OVER if record.status.is_terminal else None

    def _recorded(self, link: _Link) -> list[Any] | None:
        """Return the answer that was given already, in a list of one; None if there is none."""
        runtime = self.durable.runtime
        snapshot = runtime.store.load(link.instance_id, None)
        waiting = [] if snapshot is None else [row for row in snapshot.inbox if row.kind == EventKind.EVENT_RAISED]
        for each in (*runtime.client.history(link.instance_id), *waiting):
            if each.kind == EventKind.EVENT_RAISED and (each.facts or {}).get("id") == link.event_id:
                return [runtime.codec.decode(each.payload or "null")]
        return None

    def _raise(self, link: _Link, label: str, data: Any) -> Page:
        try:
            self.durable.runtime.client.answer(link.instance_id, link.execution, link.event, data, link.event_id)
        except (InvalidState, InstanceNotFound):
            return _OVER
        recorded = self._recorded(link)
        if recorded is not None and recorded != [data]:  # somebody else was faster
            return _ANSWERED
        return Page(200, "Thank you", f"Your answer was recorded: {label}")


_FORGED = Page(
    403, "This link is not valid", "It may have been cut off on its way. Please open it from the mail again."
)
_OVER = Page(410, "This is not asked any more", "What the link was about has ended, or went on without an answer.")
_ANSWERED = Page(410, "This was answered already", "The link works once. Nothing was changed now.")


def _choice_in(request: Request) -> str | None:
    """Return the number of the button that was pressed, as the form says it."""
    raw = read_body(request, LARGEST_FORM)
    try:
        (text,) = parse_qs(raw.decode("ascii"), max_num_fields=20)["choice"]
    except (ValueError, KeyError):
        return None
    return text


_CSS = """\
:root { color-scheme: light dark; }
body { margin: 0; font: 1.125rem/1.5 system-ui, sans-serif; }
main { max-width: 34rem; margin: 12vh auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; }
form { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 2rem; }
button { font: inherit; padding: .6rem 1.4rem; border: 2px solid currentColor; border-radius: .4rem;
  background: transparent; color: inherit; cursor: pointer; }
button:hover, button:focus-visible { background: CanvasText; color: Canvas; }
"""
