"""What ``durable_codec`` and ``durable_payload_store`` name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kombu.utils.imports import symbol_by_name

from ..core.flags import is_whole
from ..encryption import Codec
from ..errors import ConfigurationError
from ..payload_store import LargePayloads, PayloadStore
from ..settings import Settings
from ..store.vault import Vault

__all__ = ["codec_of", "payload_store_of", "vault_of"]


def vault_of(settings: Settings) -> Vault | None:
    """Return what the settings say about how values are kept; None if they say nothing.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    codec, large = codec_of(settings.codec), payload_store_of(settings.payload_store)
    return None if codec is None and large is None else Vault(codec, large)


def codec_of(given: Any) -> Codec | None:
    """Return the codec that a setting names.

    Raises:
        ConfigurationError: it is none, or cannot be imported.
    """
    if given is None:
        return None
    found = _imported("durable_codec", given) if isinstance(given, str) else given
    _demand("durable_codec", given, found, ("encode", "decode"))
    codec: Codec = found
    return codec


def payload_store_of(given: Any) -> LargePayloads | None:
    """Return the payload store that a setting names.

    Raises:
        ConfigurationError: it is none, or cannot be imported.
    """
    if given is None:
        return None
    if isinstance(given, str) and ("/" in given or "://" in given):
        return PayloadStore(given)
    found = _imported("durable_payload_store", given) if isinstance(given, str) else given
    _demand("durable_payload_store", given, found, ("write", "read", "delete"))
    if not is_whole(getattr(found, "above", None)):
        raise ConfigurationError(
            "durable_payload_store has no number of bytes as its attribute 'above'",
            setting="durable_payload_store",
        )
    large: LargePayloads = found
    return large


def _imported(setting: str, path: str) -> Any:
    by_name: Any = symbol_by_name  # it has no types
    try:
        return by_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"{setting} is {path!r}, which cannot be imported: {error}", setting=setting
        ) from error


def _demand(setting: str, given: Any, found: Any, methods: Sequence[str]) -> None:
    lacks = [name for name in methods if not callable(getattr(found, name, None))]
    if lacks or isinstance(found, type):
        what = "is a class: pass an object of it" if isinstance(found, type) else None
        raise ConfigurationError(
            f"{setting} {what or 'lacks the method ' + lacks[0] + '()'} ({given!r})",
            setting=setting,
        )
