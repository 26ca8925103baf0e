"""The HTTP management contract of Durable Functions, as a plain WSGI application.

``contrib.django`` serves the same.

``application(durable, authorize=BearerTokens(Token("...", ["view", "start"])))`` is the whole of
it. The core knows no web framework: ``Service`` takes a ``Request`` and gives a ``Response``.
"""

from .access import VERBS, BearerTokens, Token, Verdict
from .links import BadLink, EventLinks, ItsDangerousSigner, Signer
from .messages import Request, Response
from .service import Service
from .shapes import check_status_body
from .wsgi import application, create_check_status_response

__all__ = [
    # serving
    "application",
    "check_status_body",
    "create_check_status_response",
    # who may do what
    "VERBS",
    "BearerTokens",
    "Token",
    "Verdict",
    # links for people
    "BadLink",
    "EventLinks",
    "ItsDangerousSigner",
    "Signer",
    # for other web frameworks
    "Request",
    "Response",
    "Service",
]
