"""Tokens by which an activity is completed from anywhere: made of its attempt, and of a secret of
its store.

A token is a version, an authenticator, the attempt encrypted, and a checksum, in URL-safe letters.
The authenticator is an HMAC of the attempt, and begins the key stream that encrypts it: so one
attempt has one token, however often it is asked for, nothing in it can be read, and only who has
the secret can make one. Nothing of it is stored. The checksum needs no secret: it tells a damaged
token from one of another store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from .._errors import StoreError
from .records import ActivityAttemptId
from .store_ports import Store

__all__ = ["checked", "opened", "sealed", "token_of"]

#: What a token of this version begins with; as text it is a letter, so that no command line takes a
#: token for an option.
_VERSION = b"\x01"
_TAG, _CHECK = 16, 4
_LONGEST = 200
#: Letters of an attempt: what one key stream encrypts.
_MOST = 64


def token_of(store: Store, ticket: ActivityAttemptId) -> str:
    """Return the token of an attempt: the same each time."""
    key = store.completion_key(makes=True)
    if key is None:
        raise StoreError(f"the store {store.location} does not keep the secret of its tokens")
    return sealed(key, ticket)


def sealed(key: str, ticket: ActivityAttemptId) -> str:
    """Return the token of an attempt."""
    text = "-".join(map(str, ticket)).encode()
    tag = _hmac(key, b"tag", text)[:_TAG]
    body = _VERSION + tag + _xor(text, _stream(key, tag))
    return base64.urlsafe_b64encode(body + _check(body)).rstrip(b"=").decode()


def checked(token: str) -> bytes:
    """Return what a token holds, still encrypted.

    Raises:
        ValueError: it is damaged, or no token at all.
        TypeError: it is no text.
    """
    if not isinstance(token, str):
        raise TypeError(f"a token is text, not {type(token).__name__}")
    try:
        if not 0 < len(token) <= _LONGEST:
            raise ValueError
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        body, check = raw[:-_CHECK], raw[-_CHECK:]
        is_whole = (
            body[: len(_VERSION)] == _VERSION
            and 0 < len(body) - len(_VERSION) - _TAG <= _MOST
            and check == _check(body)
            and base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == token
        )
        if not is_whole:
            raise ValueError
    except (ValueError, binascii.Error):
        raise ValueError(
            "this is no token of durable_context().defer(), or it was damaged on its way"
        ) from None
    return body


def opened(key: str | None, body: bytes) -> ActivityAttemptId | None:
    """Return whose token it is; None if it was made with another secret: it is of another store."""
    if key is None:
        return None
    tag, rest = body[len(_VERSION) :][:_TAG], body[len(_VERSION) + _TAG :]
    text = _xor(rest, _stream(key, tag))
    if not hmac.compare_digest(tag, _hmac(key, b"tag", text)[:_TAG]):
        return None
    execution, command, attempt = text.decode().rsplit("-", 2)
    return ActivityAttemptId(execution, int(command), int(attempt))


def _hmac(key: str, purpose: bytes, text: bytes) -> bytes:
    return hmac.digest(key.encode(), purpose + b":" + text, hashlib.sha512)


def _stream(key: str, tag: bytes) -> bytes:
    return _hmac(key, b"stream", tag)


def _xor(text: bytes, stream: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(text, stream[: len(text)], strict=True))


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"durable:" + body).digest()[:_CHECK]
