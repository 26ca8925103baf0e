"""What ``durable_archive`` names: a function, its import path, or a folder."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from kombu.utils.imports import symbol_by_name

from ..engine.archive import Archive
from ..errors import ConfigurationError

__all__ = ["LazyArchive", "archive_of"]

_SETTING = "durable_archive"


def archive_of(given: Any) -> Archive:
    """Return the hook that a setting names.

    Raises:
        ConfigurationError: it is none, or cannot be imported.
    """
    if isinstance(given, os.PathLike) or _is_path(given):
        from ..archive import ArchiveFolder

        return ArchiveFolder(given)
    hook = given
    if isinstance(given, str):
        try:
            hook = _imported(given)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(
                f"{_SETTING} is {given!r}, which cannot be imported: {error}. Write"
                " 'package.module.function', or a folder with a slash in it",
                setting=_SETTING,
            ) from error
    is_async = inspect.iscoroutinefunction(hook)
    if not callable(hook) or is_async:
        what = "an async function" if is_async else repr(hook)
        raise ConfigurationError(
            f"{_SETTING} is {what}: it must be a function of a document and its key, the import"
            " path of one, or a folder",
            setting=_SETTING,
        )
    found: Callable[[str, str], object] = hook
    return found


class LazyArchive:
    """The hook that a setting names, imported when it is first called: it may need the app.

    Args:
        given: the setting.
    """

    def __init__(self, given: Any) -> None:
        self._given = given
        self._hook: Archive | None = None

    def __call__(self, document: str, key: str) -> object:
        """Call the hook."""
        return self.hook(document, key)

    @property
    def hook(self) -> Archive:
        """What the setting names.

        Raises:
            ConfigurationError: it names nothing.
        """
        if self._hook is None:
            self._hook = archive_of(self._given)
        return self._hook

    def check(self) -> None:
        """Refuse a setting that names nothing.

        Raises:
            ConfigurationError: so it is.
        """
        _ = self.hook


def _imported(path: str) -> Any:
    by_name: Any = symbol_by_name  # it has no types
    return by_name(path)


def _is_path(given: Any) -> bool:
    return isinstance(given, str) and ("/" in given or os.sep in given or given.startswith("~"))
