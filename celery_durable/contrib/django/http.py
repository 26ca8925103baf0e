"""The HTTP contract in Django: who may do what by Django's permissions, CSRF protection for
sessions, signed links.

Everything else is ``celery_durable.http``; what is here only translates requests and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from django.contrib.auth.decorators import login_not_required
from django.core import signing
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.middleware.csrf import CsrfViewMiddleware
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from ...core.names import parts_of_id
from ...core.retry import Interval
from ...http import BadLink, BearerTokens, EventLinks, Request, Response, Service, Token, Verdict
from ...http.access import (
    RAISE_EVENT_MANY,
    VIEW_PAYLOAD,
    Authorize,
    bearer_of,
    set_principal,
    verdict_of,
)
from ...http.links import APPROVALS, LARGEST_FORM, PAGE_HEADERS, STYLESHEET
from ...http.messages import Problem
from ...http.routes import raw_suffix
from ...http.shapes import accepted
from ...http.wsgi import headers_of
from .project import durable_of_project
from .transactions import commits_by_itself

__all__ = [
    "DjangoSigner",
    "api_view",
    "approval_view",
    "create_check_status_response",
    "permission_of",
    "session_access",
    "signed_event_url",
    "stylesheet_view",
    "tokens_or_session",
]

_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_SALT = "celery_durable.link"
View = Callable[..., HttpResponse]


# -- who may do what -------------------------------------------------------------------------------


def permission_of(verb: str) -> str:
    """Return the permission that a verb needs, such as ``celery_durable.suspend_instance``."""
    if verb == RAISE_EVENT_MANY:
        verb = "raise_event"
    return f"celery_durable.{verb if verb == VIEW_PAYLOAD else f'{verb}_instance'}"


def session_access(request: HttpRequest, verb: str, instance_id: str | None = None) -> Verdict:
    """Let in users who are logged in and have the permission of the verb, or ``view_entity`` to
    look at entities; the default.
    """
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return Verdict.ANONYMOUS
    looks_at_entities = verb == "view" and _is_about_entities(request, instance_id)
    permission = "celery_durable.view_entity" if looks_at_entities else permission_of(verb)
    return Verdict.ALLOWED if user.has_perm(permission) else Verdict.FORBIDDEN


def _is_about_entities(request: HttpRequest, instance_id: str | None) -> bool:
    """Tell whether a request is about an entity, or lists entities."""
    if instance_id is not None:
        return parts_of_id(instance_id) is not None
    match = request.resolver_match
    return match is not None and str(match.kwargs.get("path", "")).partition("/")[0] == "entities"


def tokens_or_session(*tokens: Token, session: Authorize = session_access) -> Authorize:
    """Return a hook that lets machine clients in by ``Authorization: Bearer <secret>``, and all
    others as ``session`` says.

    Args:
        *tokens: of the machine clients; they need no CSRF token. A wrong one is refused, whatever
            session there is.
        session: asked where no bearer token was sent.
    """
    known = BearerTokens(*tokens)

    def authorize(
        request: HttpRequest, verb: str, instance_id: str | None = None
    ) -> Verdict | bool:
        header = request.META.get("HTTP_AUTHORIZATION")
        if bearer_of(header) is None:
            return session(request, verb, instance_id)
        if (name := known.principal(header)) is not None:
            set_principal(request, name)
        return known.judge(header, verb)

    return authorize


class _CsrfCheck(CsrfViewMiddleware):
    """Tells the reason of a refusal instead of making a page of it."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _protected(authorize: Authorize) -> Authorize:
    """Return the same hook, which refuses a session's request to change something without CSRF
    token.
    """

    def ask(request: HttpRequest, verb: str, instance_id: str | None) -> Verdict:
        verdict = verdict_of(authorize(request, verb, instance_id))
        if verdict is Verdict.ALLOWED and request.method not in _SAFE:
            check = _CsrfCheck(lambda _: HttpResponse())
            check.process_request(request)
            if reason := check.process_view(request, None, (), {}):
                raise Problem(403, f"CSRF verification failed: {reason}")
        return verdict

    return ask


# -- views -----------------------------------------------------------------------------------------


def api_view(authorize: Authorize) -> View:
    """Return the view of the whole contract.

    Args:
        authorize: ``authorize(request, verb, instance_id)``; see ``celery_durable.http.access``.
    """
    ask = _protected(authorize)

    def api(request: HttpRequest, path: str = "") -> HttpResponse:
        return _answer(Service(durable_of_project(), ask).answer(_request_of(request, path)))

    return _plain(csrf_exempt(api))  # _protected looks itself, once it is known who asks


@csrf_protect
def _approval(request: HttpRequest, token: str) -> HttpResponse:
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD, POST"})
    if request.method == "POST" and _length_of(request) > LARGEST_FORM:
        return HttpResponse("The answer is too large.", status=413, content_type="text/plain")
    base = _base(request, APPROVALS + token)
    page = _links().page(
        token,
        base + STYLESHEET,
        is_answer=request.method == "POST",
        choice=request.POST.get("choice"),
    )
    html = render_to_string("celery_durable/approval.html", {"page": page}, request)
    return HttpResponse(
        html, status=page.status, headers={"Cache-Control": "no-store", **PAGE_HEADERS}
    )


def _length_of(request: HttpRequest) -> int:
    """Return how long a request says its body is.

    Django, too, reads nothing of one that says no number.
    """
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def stylesheet_view(request: HttpRequest) -> HttpResponse:
    """Return the style of the pages."""
    return _answer(EventLinks.style())


def _plain(view: View) -> View:
    """Let a view commit what it does by itself, whatever ATOMIC_REQUESTS says, and answer those
    who are not logged in by itself.
    """
    found: View = login_not_required(commits_by_itself(view))
    return found


approval_view: View = _plain(_approval)
stylesheet_view = _plain(stylesheet_view)


def _base(request: HttpRequest, path: str) -> str:
    mount = request.path[: len(request.path) - len(path)] if path else request.path
    return str(request.build_absolute_uri(quote(mount, safe="/")))


def _request_of(request: HttpRequest, path: str) -> Request:
    raw = request.META.get("RAW_URI") or request.META.get("REQUEST_URI")
    if raw is None and (scope := getattr(request, "scope", None)) is not None:
        raw = (scope.get("raw_path") or b"").decode("ascii", "replace") or None

    def read(size: int) -> bytes:
        try:
            return bytes(request.read(size))
        except UnreadablePostError as error:
            raise Problem(400, "the body was cut off", field="body") from error

    return Request(
        method=request.method or "GET",
        path=path,
        raw_path=raw_suffix(raw, path),
        query=request.META.get("QUERY_STRING", ""),
        headers=headers_of(request.META),
        base=_base(request, path),
        read=read,
        origin=request,
        user=_user_of(request),
    )


def _user_of(request: HttpRequest) -> str | None:
    """Return who has the session that a request is made in; a machine client has none."""
    user = getattr(request, "user", None)
    is_session = bearer_of(request.META.get("HTTP_AUTHORIZATION")) is None
    return (
        str(user.get_username())
        if is_session and user is not None and user.is_authenticated
        else None
    )


def _answer(response: Response) -> HttpResponse:
    return HttpResponse(response.body, status=response.status, headers=dict(response.header_list()))


# -- for views of the project ----------------------------------------------------------------------


def create_check_status_response(
    request: HttpRequest, instance_id: str, *, namespace: str = "celery_durable"
) -> HttpResponse:
    """Return the answer to a start that a view of your own made: 202, with the addresses to watch
    and to steer it by.

    Args:
        request: the view's.
        instance_id: what was started.
        namespace: of the URLs, if they were included under another one.
    """
    base = request.build_absolute_uri(reverse(f"{namespace}:root"))
    return _answer(accepted(base, instance_id))


class DjangoSigner:
    """Signs with ``SECRET_KEY``; reads what any of ``SECRET_KEY_FALLBACKS`` has signed."""

    def dumps(self, value: Any) -> str:
        """Return URL-safe text."""
        return str(signing.dumps(value, salt=_SALT, compress=True))

    def loads(self, text: str) -> Any:
        """Return the value again; raises ``BadLink`` if the text is not ours."""
        try:
            return signing.loads(text, salt=_SALT)
        except signing.BadSignature as error:
            raise BadLink from error


def _links(base_url: str = "/") -> EventLinks:
    return EventLinks(durable_of_project(), DjangoSigner(), base_url)


def signed_event_url(
    instance_id: str,
    event: str,
    choices: Mapping[str, Any] | None = None,
    *,
    origin: HttpRequest | str = "",
    max_age: Interval = 7 * 86_400,
    title: str = "Please confirm",
    key: str | None = None,
    namespace: str = "celery_durable",
) -> str:
    """Return a link whose page asks a question, and raises an event with the answer, once.

    See ``EventLinks``.

    Args:
        instance_id: of an orchestration that is committed and not over.
        event: what it waits for by ``ctx.wait_event(event)``.
        choices: what a person may answer: the label of the button to the payload of the event.
        origin: such as ``https://shop.example``, or a request of the same origin; without it the
            path alone is returned.
        max_age: seconds or ``timedelta``.
        title: the question.
        key: links with the same key count as one.
        namespace: of the URLs, if they were included under another one.

    Raises:
        InstanceNotFound, InvalidState: there is none, or it is over.
        ValueError: there are no choices, ``max_age`` is not positive, or the link would be too
            long.
    """
    root = reverse(f"{namespace}:root")
    base = origin.rstrip("/") + root if isinstance(origin, str) else origin.build_absolute_uri(root)
    return _links(base).signed_event_url(
        instance_id, event, choices, max_age=max_age, title=title, key=key
    )
