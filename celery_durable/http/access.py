"""Who may do what. Closed by default: without an ``authorize`` hook, every request is refused.

The hook is ``authorize(request, verb, instance_id)``. ``request`` is the WSGI environ or Django's
request; ``verb`` is one of ``VERBS``; ``instance_id`` is None where a request is not about a single
instance. It is asked once for the verb of a route, and once more for ``view_payload`` before
anything is shown that an orchestration was given or has said.

Who asks is kept in the audit trail: what the server or the session knows (``Request.user``), or
the name that the hook leaves in ``environ["celery_durable.principal"]`` or
``request.durable_principal``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..engine.verb import Surface
from ..engine.verbs import offered_in
from ..errors import ConfigurationError

__all__ = [
    "VERBS",
    "Authorize",
    "BearerTokens",
    "Token",
    "Verdict",
    "bearer_of",
    "principal_of",
    "set_principal",
    "verdict_of",
]

VIEW_PAYLOAD = "view_payload"
#: Of an event for all that match filters: a verb of its own, as it is not about a single instance.
RAISE_EVENT_MANY = "raise_event_many"
_PRINCIPAL = "celery_durable.principal"


def known_verbs() -> tuple[str, ...]:
    """Return every verb that a hook is asked for."""
    verbs = (verb.name for verb in offered_in(Surface.HTTP))
    return ("view", VIEW_PAYLOAD, "start", *verbs, RAISE_EVENT_MANY)


#: every verb that a hook is asked for
VERBS = known_verbs()
_SHORTEST_SECRET = 16


class Verdict(Enum):
    """What a hook may say beside True (allowed) and False (forbidden)."""

    ALLOWED = "allowed"
    #: Allowed by something that no browser sends on its own, such as a bearer token: no CSRF
    #: protection is needed.
    ALLOWED_BY_TOKEN = "allowed by token"  # noqa: S105  not a secret
    FORBIDDEN = "forbidden"
    #: It is not known who asks: the answer is 401.
    ANONYMOUS = "anonymous"

    @property
    def is_allowed(self) -> bool:
        """True if the request is allowed."""
        return self in (Verdict.ALLOWED, Verdict.ALLOWED_BY_TOKEN)


Authorize = Callable[[Any, str, str | None], "Verdict | bool"]


def verdict_of(answer: object) -> Verdict:
    """Return what a hook's answer means; anything that is not clearly a yes is a no."""
    if isinstance(answer, Verdict):
        return answer
    return Verdict.ALLOWED if answer is True else Verdict.FORBIDDEN


def set_principal(origin: Any, name: str) -> None:
    """Leave the name of who asks with a request: a WSGI environ, or one of a framework."""
    if isinstance(origin, MutableMapping):
        origin[_PRINCIPAL] = name
    elif not isinstance(origin, Mapping):
        origin.durable_principal = name


def principal_of(origin: Any) -> str | None:
    """Return the name that the hook has left with a request; None if it left none."""
    found = (
        origin.get(_PRINCIPAL)
        if isinstance(origin, Mapping)
        else getattr(origin, "durable_principal", None)
    )
    return found if isinstance(found, str) and found else None


@dataclass(frozen=True)
class Token:
    """A machine client: its secret, and what it may do.

    Args:
        secret: at least 16 characters of printable ASCII without blanks;
            ``secrets.token_urlsafe()`` makes good ones.
        verbs: those of ``VERBS`` that it may use; payloads are shown to it only with
            ``view_payload``.
        name: of the client, for the audit trail; without one it is told by a digest of its secret.

    Raises:
        ConfigurationError: the secret is too short, or a verb is unknown.
    """

    secret: str
    verbs: Iterable[str]
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.secret, str) or len(self.secret) < _SHORTEST_SECRET:
            raise ConfigurationError(f"a token's secret has at least {_SHORTEST_SECRET} characters")
        if not self.secret.isascii() or not self.secret.isprintable() or " " in self.secret:
            raise ConfigurationError("a token's secret is printable ASCII without blanks")
        chosen = (self.verbs,) if isinstance(self.verbs, str) else tuple(self.verbs)
        known = known_verbs()
        if unknown := sorted(set(chosen) - set(known)):
            raise ConfigurationError(
                f"unknown verbs: {', '.join(unknown)}; known are {', '.join(known)}"
            )
        object.__setattr__(self, "verbs", frozenset(chosen))

    def __repr__(self) -> str:
        return f"<Token for {', '.join(sorted(self.verbs))}>"

    @property
    def principal(self) -> str:
        """What the audit trail calls its client."""
        return self.name or f"token {hashlib.sha256(self.secret.encode()).hexdigest()[:8]}"


class BearerTokens:
    """An ``authorize`` hook for WSGI: ``Authorization: Bearer <secret>``.

    Args:
        tokens: of the clients that are let in.

    Raises:
        TypeError: one of them is no ``Token``.
    """

    def __init__(self, *tokens: Token) -> None:
        for each in tokens:
            if not isinstance(each, Token):
                raise TypeError(
                    "BearerTokens takes tokens, as in BearerTokens(Token(...), Token(...)), not a"
                    f" {type(each).__name__}"
                )
        self._tokens = tokens

    def __call__(
        self, environ: Mapping[str, Any], verb: str, instance_id: str | None = None
    ) -> Verdict:
        """Return the verdict on a WSGI request."""
        authorization = environ.get("HTTP_AUTHORIZATION")
        if (name := self.principal(authorization)) is not None:
            set_principal(environ, name)
        return self.judge(authorization, verb)

    def principal(self, authorization: str | None) -> str | None:
        """Return what the audit trail calls the client of an ``Authorization`` header; None if it
        is none that is let in.
        """
        return next((token.principal for token in self._matching(authorization)), None)

    def judge(self, authorization: str | None, verb: str) -> Verdict:
        """Return the verdict on the value of an ``Authorization`` header."""
        if not (matching := self._matching(authorization)):
            return Verdict.ANONYMOUS
        return (
            Verdict.ALLOWED_BY_TOKEN
            if any(verb in token.verbs for token in matching)
            else Verdict.FORBIDDEN
        )

    def _matching(self, authorization: str | None) -> list[Token]:
        secret = bearer_of(authorization)
        if secret is None:
            return []
        given = secret.encode("utf-8", "surrogateescape")
        # every token is compared, in a time that does not tell how much of one was right
        return [
            token for token in self._tokens if hmac.compare_digest(token.secret.encode(), given)
        ]


def bearer_of(authorization: str | None) -> str | None:
    """Return the secret in an ``Authorization`` header, or None if it holds none."""
    scheme, _, secret = (authorization or "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None
