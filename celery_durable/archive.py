"""An archive of ended orchestrations: a folder of gzip files.

``durable_archive = "/var/lib/shop/archive"`` is the shortest way to it; ``ArchiveFolder`` is the
same as an object, and ``read_archived`` reads a file back. Any function of a document and its key
can take its place.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["ArchiveFolder", "read_archived"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 80
_MAGIC = b"\x1f\x8b"


class ArchiveFolder:
    """Writes each document into a gzip file of a folder, and returns when it is on the disk.

    A file is called after the id and a digest of the key, and lies in a folder of the month in
    which the orchestration ended: ``2026-05/order-42-6fd1a0c5e1b2f3d4.json.gz``. The same key once
    more replaces the same file by the same content; no file is ever seen half written.

    Args:
        path: of the folder; it is made when it is first needed.

    Example:
        >>> app.conf.durable_archive = ArchiveFolder("/var/lib/shop/archive")
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path).expanduser()

    def __repr__(self) -> str:
        return f"ArchiveFolder({str(self.path)!r})"

    def __call__(self, document: str, key: str) -> Path:
        """Write a document, and return its file.

        Raises:
            OSError: it cannot be written; there is no file then, or the one that was there.
        """
        target = self.file_of(document, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                # without a time: the same document is the same file
                file.write(gzip.compress(document.encode("utf-8", "surrogateescape"), mtime=0))
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        _sync_folder(target.parent)
        return target

    def file_of(self, document: str, key: str) -> Path:
        """Return where a document of a key is written."""
        ended = json.loads(document).get("completed_at") or "0000-00"
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        words = _UNSAFE.sub("_", key.rpartition("@")[0])[:_LONGEST].lstrip(".")
        return self.path / str(ended)[:7] / f"{words}-{digest}.json.gz"


def _sync_folder(path: Path) -> None:
    """Let the name of a file be on the disk, too, where a folder can be asked for that."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_archived(path: str | os.PathLike[str]) -> str:
    """Return the document of an archived file, or of one that ``durable export`` wrote: for
    ``durable.replay`` and ``durable.verify``.

    Raises:
        OSError: it cannot be read, or is damaged.

    Example:
        >>> durable.verify(map(read_archived, Path("/var/lib/shop/archive").rglob("*.json.gz")))
    """
    data = Path(path).read_bytes()
    return (gzip.decompress(data) if data.startswith(_MAGIC) else data).decode("utf-8")
