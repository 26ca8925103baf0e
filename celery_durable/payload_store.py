"""Large payloads beside the database: the place that ``durable_payload_store`` names.

``PayloadStore`` is any file system that fsspec knows (S3, Google Cloud Storage, Azure, a shared
folder); another object with ``above``, ``write``, ``read`` and ``delete`` can take its place. It
needs the extra ``[payloads]``, and fsspec's own package for the place, such as ``s3fs``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from ._errors import ConfigurationError
from .versions import demand

__all__ = ["LargePayloads", "PayloadStore"]


@runtime_checkable
class LargePayloads(Protocol):
    """What ``durable_payload_store`` takes. Keys are made of letters, digits, ``/`` and ``-``; what
    is written under one never changes its meaning.
    """

    #: Values of more bytes than this are kept here, all others in the database.
    above: int

    def write(self, key: str, data: bytes) -> None:
        """Keep some bytes under a key, so that they are there when this returns."""

    def read(self, key: str) -> bytes:
        """Return what is kept under a key.

        Raises:
            FileNotFoundError: nothing is.
        """

    def delete(self, keys: Sequence[str]) -> None:
        """Delete what is kept under some keys; one that is gone already is no error."""


#: The protocols of fsspec that keep objects in buckets.
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "ossfs"})


class PayloadStore:
    """Keeps payloads above a size as files.

    Args:
        url: of the folder, as fsspec takes it: ``s3://bucket/durable``, ``/mnt/shared/durable``.
        above: the size in bytes above which a value goes there, as it is stored: encoded, and
            encrypted where ``durable_codec`` is set.
        **options: those of fsspec's file system, such as ``key``, ``secret`` and ``endpoint_url``.

    Raises:
        ConfigurationError: fsspec, or its package for the place, is missing.
        ValueError: ``above`` is negative.

    Example:
        >>> app.conf.durable_payload_store = PayloadStore("/mnt/payloads", above=64 * 1024)
    """

    def __init__(self, url: str, *, above: int = 128 * 1024, **options: Any) -> None:
        if above < 0:
            raise ValueError(f"above is a number of bytes, not {above!r}")
        self.url = url
        self.above: int = above
        self._options = options
        self._opened: tuple[int, Any, str] | None = None
        _ = self._place

    def __repr__(self) -> str:  # options may hold a secret
        return f"PayloadStore({self.url!r}, above={self.above})"

    def __reduce__(self) -> Any:
        return _made, (self.url, self.above, self._options)

    @property
    def _place(self) -> tuple[Any, str]:
        """The file system of this process, and the path in it: a forked child opens its own."""
        pid = os.getpid()
        if self._opened is None or self._opened[0] != pid:
            try:
                demand("fsspec")
                import fsspec

                system, root = fsspec.core.url_to_fs(self.url, **self._options)
            except ImportError as error:
                raise ConfigurationError(
                    f"durable_payload_store {self.url!r} needs a package that is not installed:"
                    f" {error}. Install celery-durable[payloads], and fsspec's package for the"
                    " place, such as s3fs",
                    setting="durable_payload_store",
                ) from error
            self._opened = pid, system, root.rstrip("/")
        return self._opened[1], self._opened[2]

    def write(self, key: str, data: bytes) -> None:
        """Write a file: under another name first where one could be seen half written."""
        system, root = self._place
        path = f"{root}/{key}"
        if not _has_buckets(system):
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
        if _is_local(system):
            _write_whole(path, data)
        else:
            system.pipe_file(path, data)

    def read(self, key: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        system, root = self._place
        found: bytes = system.cat_file(f"{root}/{key}")
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Delete files."""
        system, root = self._place
        for key in keys:
            try:
                system.rm_file(f"{root}/{key}")
            except FileNotFoundError:
                continue

    def keys(self, prefix: str = "") -> Iterator[tuple[str, float]]:
        """Give the files below a prefix: their keys, and when they were last written, in seconds
        since the epoch.
        """
        system, root = self._place
        try:
            found = system.find(f"{root}/{prefix}", detail=True)
        except FileNotFoundError:
            return
        for path in found:
            yield path.removeprefix(f"{root}/"), system.modified(path).timestamp()


def _made(url: str, above: int, options: dict[str, Any]) -> PayloadStore:
    return PayloadStore(url, above=above, **options)


def _has_buckets(system: Any) -> bool:
    """Tell whether it has no folders, where to make one would be to make the bucket.

    That would be done for a misspelt name too, and be refused to who may only write objects.
    """
    named = system.protocol
    return not _BUCKETS.isdisjoint([named] if isinstance(named, str) else named)


def _is_local(system: Any) -> bool:
    protocol = system.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _write_whole(path: str, data: bytes) -> None:
    part = f"{path}.{os.getpid()}.part"
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
