"""Encryption of what the store and the broker hold: the codec that ``durable_codec`` names.

``FernetCodec`` is one, for ``cryptography``'s Fernet (AES-128-CBC with an HMAC-SHA-256); any object
with ``encode`` and ``decode`` from bytes to bytes can take its place, as one that asks a key
management service. It needs the extra ``[encryption]``.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ._errors import ConfigurationError
from .versions import demand

if TYPE_CHECKING:
    from cryptography.fernet import Fernet, MultiFernet

__all__ = ["Codec", "FernetCodec"]


@runtime_checkable
class Codec(Protocol):
    """What ``durable_codec`` takes. Both methods are called from any thread, and often.

    A method ``is_current(data: bytes) -> bool`` may tell what was encoded as it would be today, so
    that ``durable reencrypt`` leaves that alone.
    """

    def encode(self, data: bytes) -> bytes:
        """Return what is kept in the place of some bytes."""

    def decode(self, data: bytes) -> bytes:
        """Return the bytes of what was kept; whatever it raises means that it cannot be read."""


class FernetCodec:
    """Encrypts with the first of its keys, and decrypts with any of them.

    To rotate keys, put a new one in front everywhere, restart, run ``celery -A app durable
    reencrypt``, and drop the old one.

    Args:
        *keys: as ``Fernet.generate_key()`` gives them: 32 bytes in URL-safe base64.

    Raises:
        ConfigurationError: there is no key, one is malformed, or ``cryptography`` is missing.

    Example:
        >>> import os
        >>> from cryptography.fernet import Fernet
        >>> os.environ["DURABLE_KEYS"] = Fernet.generate_key().decode()
        >>> app.conf.durable_codec = FernetCodec(*os.environ["DURABLE_KEYS"].split(","))
    """

    def __init__(self, *keys: str | bytes) -> None:
        self._keys = keys
        if not keys:
            raise ConfigurationError(
                "FernetCodec needs a key: Fernet.generate_key() makes one", setting="durable_codec"
            )
        _ = self._fernets

    def __repr__(self) -> str:
        return f"<FernetCodec of {len(self._keys)} keys>"

    def __reduce__(self) -> Any:  # what is made of the keys is not pickled
        return type(self), self._keys

    @cached_property
    def _fernets(self) -> list[Fernet]:
        try:
            demand("cryptography")
            from cryptography.fernet import Fernet
        except ImportError as error:
            raise ConfigurationError(
                f"FernetCodec needs cryptography: {error}. Install celery-durable[encryption]",
                setting="durable_codec",
            ) from error
        try:
            return [Fernet(key.strip()) for key in self._keys]
        except (ValueError, TypeError, AttributeError):
            # without the key in a traceback
            raise ConfigurationError(
                "a key of FernetCodec is none: Fernet.generate_key() makes them, 32 bytes in"
                " URL-safe base64",
                setting="durable_codec",
            ) from None

    @cached_property
    def _all(self) -> MultiFernet:
        from cryptography.fernet import MultiFernet

        return MultiFernet(self._fernets)

    def encode(self, data: bytes) -> bytes:
        """Encrypt with the first key."""
        return self._all.encrypt(data)

    def decode(self, data: bytes) -> bytes:
        """Decrypt with whichever key fits.

        Raises:
            cryptography.fernet.InvalidToken: none does.
        """
        return self._all.decrypt(data)

    def is_current(self, data: bytes) -> bool:
        """Tell whether the first key has encrypted this."""
        from cryptography.fernet import InvalidToken

        try:
            self._fernets[0].decrypt(data)
        except InvalidToken:
            return False
        return True
