"""Messages whose arguments the broker cannot read: kombu's serializer ``durable``.

Where ``durable_codec`` is set, activities are sent by it, around the serializer that they would
have had, and so are their retries by Celery. An app may use it for all of its messages and results,
too: ``task_serializer = result_serializer = "durable"``. The codec is that of the app that sends or
reads.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery, current_app
from kombu import serialization
from kombu.exceptions import ContentDisallowed, DecodeError

from ..encryption import Codec
from ..errors import ConfigurationError, PayloadError

__all__ = [
    "CONTENT_TYPE",
    "SERIALIZER",
    "accept_sealed",
    "codec_of",
    "is_sealed_by",
    "is_unreadable",
    "register_serializers",
    "seal",
    "serializer_of",
    "use_codec",
]

SERIALIZER = "durable"
CONTENT_TYPE = "application/x-celery-durable"
#: What Celery shows of the arguments of such a message.
_SHOWN = "(encoded)"
_UNREADABLE = "durable_codec cannot read a message"
_kombu: Any = serialization  # it has no types
#: Of each app of this process.
_codecs: WeakKeyDictionary[Celery, Codec | None] = WeakKeyDictionary()
_codec: ContextVar[Codec | None] = ContextVar("celery_durable_codec", default=None)


def codec_of(app: Celery) -> Codec | None:
    """Return the codec of an app's messages, or None."""
    durable = getattr(app, "durable", None)
    found: Codec | None = None if durable is None else durable.runtime.message_codec
    return found


def use_codec(app: Celery, codec: Codec | None) -> None:
    """Note the codec of an app whose engine was made: messages of any app may come to a process."""
    _codecs[app] = codec


def serializer_of(app: Celery, task: Any, options: Mapping[str, Any]) -> str:
    """Return the serializer of a message as Celery chooses it; a task unknown here is None."""
    own = options.get("serializer") or getattr(task, "serializer", None)
    return str(own or app.conf.task_serializer)


def seal(options: MutableMapping[str, Any], serializer: str) -> None:
    """Let a message be sent encoded, which would have been sent by a serializer."""
    is_sealed = serializer.partition("+")[0] == SERIALIZER
    options["serializer"] = sealed = serializer if is_sealed else f"{SERIALIZER}+{serializer}"
    if sealed not in _kombu.registry._encoders and serializer in _kombu.registry._encoders:
        register_serializers()  # one that the application has registered since
    options["argsrepr"] = options["kwargsrepr"] = _SHOWN


@contextmanager
def is_sealed_by(codec: Codec) -> Iterator[None]:
    """Encode what is sent in this block by this codec, whichever app is the current one."""
    token = _codec.set(codec)
    try:
        yield
    finally:
        _codec.reset(token)


def accept_sealed(app: Celery) -> None:
    """Let an app's workers take messages that are encoded.

    Celery asks for this when a worker begins, before there is an engine. What is inside a message
    has to be accepted by itself.
    """
    accepted = app.conf.accept_content or ()
    if CONTENT_TYPE not in accepted:
        app.conf.accept_content = [*accepted, CONTENT_TYPE]


def is_unreadable(error: BaseException) -> bool:
    """Tell of an error whether a message could not be read for want of a codec, or of its key."""
    if not isinstance(error, (DecodeError, ContentDisallowed)):
        return False
    return CONTENT_TYPE in str(error) or _UNREADABLE in str(error)


def register_serializers() -> None:
    """Let kombu know the serializer, around each of those that it knows now."""
    names = [name for name in _kombu.registry._encoders if name.partition("+")[0] != SERIALIZER]
    for name in names:
        _kombu.register(
            f"{SERIALIZER}+{name}", partial(_encoded, name), _decoded, CONTENT_TYPE, "utf-8"
        )
    _kombu.register(SERIALIZER, partial(_encoded, "json"), _decoded, CONTENT_TYPE, "utf-8")


def _encoded(serializer: str, value: Any) -> str:
    content_type, encoding, data = _kombu.dumps(value, serializer=serializer)
    raw = data.encode() if isinstance(data, str) else data
    codec = _codec.get()
    sealed = (_of_current_app() if codec is None else codec).encode(raw)
    return json.dumps([content_type, encoding, base64.b64encode(sealed).decode()])


def _decoded(text: Any) -> Any:
    content_type, encoding, data = json.loads(text)
    raw = _opened(base64.b64decode(data))
    accept = current_app.conf.accept_content or ()
    return _kombu.loads(
        raw, content_type, encoding, accept={_kombu.registry.name_to_type.get(n, n) for n in accept}
    )


def _opened(data: bytes) -> bytes:
    """Decode by the codec of the current app, or of another app of this process."""
    current = current_app._get_current_object()
    own = codec_of(current)
    for codec in list(_codecs.values()):
        if codec is not None and codec is not own:
            with suppress(Exception):
                return codec.decode(data)
    try:
        return (_of_current_app() if own is None else own).decode(data)
    except ConfigurationError:
        raise
    except Exception as error:
        raise PayloadError(f"{_UNREADABLE}: {type(error).__name__} {error}") from error


def _of_current_app() -> Codec:
    codec = codec_of(current_app._get_current_object())
    if codec is None:
        raise ConfigurationError(
            f"{_UNREADABLE}: it is not set here. Give all workers and clients the same settings",
            setting="durable_codec",
        )
    return codec
