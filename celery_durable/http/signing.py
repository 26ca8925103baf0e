"""Text that only this application can make: the tokens of links."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from ..errors import ConfigurationError
from ..versions import demand

__all__ = ["BadLink", "ItsDangerousSigner", "Signer"]

_SALT = "celery_durable.link"


class BadLink(Exception):
    """The link was not signed by us."""


class Signer(Protocol):
    """Puts a value into text that only it can make."""

    def dumps(self, value: Any) -> str:
        """Return URL-safe text."""

    def loads(self, text: str) -> Any:
        """Return the value again; raises ``BadLink`` if the text is not ours."""


class ItsDangerousSigner:
    """Signs with ``itsdangerous``.

    Args:
        secrets: the newest last; links are signed with that one, and read with any.

    Raises:
        ConfigurationError: a secret is shorter than 16 characters, or ``itsdangerous`` is not
            installed.
    """

    def __init__(self, *secrets: str) -> None:
        try:
            from itsdangerous import BadData, URLSafeSerializer

            demand("itsdangerous")
        except ImportError as error:
            raise ConfigurationError(
                "signed links need itsdangerous: pip install 'celery-durable[http]'"
            ) from error
        if not secrets or any(len(each) < 16 for each in secrets):
            raise ConfigurationError("signed links need a secret of at least 16 characters")
        self._bad = BadData
        self._serializer = URLSafeSerializer(
            list(secrets),
            salt=_SALT,
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
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
