"""Ids in the admin's addresses and forms: any id of 1 to 150 characters has one, and comes back as
it was.

It is Django's quoting of primary keys, so that links from its own pages (recent actions, the log)
lead to ours, and a little more: browsers take "." and ".." for directories, and change line ends in
forms.
"""

from __future__ import annotations

import re

from django.contrib.admin.utils import quote

__all__ = ["quoted", "unquoted"]

_QUOTED = re.compile("_([0-9A-F]{2})")


def quoted(key: str) -> str:
    """Return an id as one part of a path."""
    text = str(quote(key)).replace("\r", "_0D")
    return text.replace(".", "_2E") if key in (".", "..") else text


def unquoted(part: str) -> str:
    """Return the id that a part of a path stands for; an underscore of its own is quoted, too."""
    return _QUOTED.sub(lambda found: chr(int(found[1], 16)), part)
