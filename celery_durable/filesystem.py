"""Telling whether a file is on a network file system, where SQLite's locks cannot be trusted
(https://sqlite.org/lockingv3.html).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ._errors import ConfigurationError

__all__ = ["refuse_network"]

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)


def refuse_network(path: str | os.PathLike[str], what: str) -> None:
    """Refuse a file on a network file system; where the kernel does not tell, nothing is refused.

    Raises:
        ConfigurationError: it is on one.
    """
    kind = _kind_of(os.path.realpath(path))
    if kind in _NETWORK:
        raise ConfigurationError(
            f"{what} {os.fspath(path)!r} is on a network file system ({kind}), where SQLite loses"
            " data: put it on a local disk, or use PostgreSQL"
        )


def _kind_of(path: str) -> str | None:
    """Return the type of the file system that a path is on: of its longest mount point, and of that
    the last.
    """
    try:
        lines = _MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    longest, kind = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        if len(point) >= longest and (path == point or path.startswith(point.rstrip("/") + "/")):
            longest, kind = len(point), after.split()[0]
    return kind
