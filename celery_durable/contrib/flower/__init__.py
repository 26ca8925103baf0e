"""The tab "Orchestrations" in Flower, without a fork and without configuration.

``Durable`` calls ``attach`` in a process that has Flower loaded already. This module is then all
that is imported: the rest, and Tornado, wait until a Flower is made that shows an app with
orchestrations. Whatever does not fit leaves Flower as it is, with one warning in the log.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["add_tab", "attach"]

log: logging.Logger = logging.getLogger("celery_durable.flower")
_MARK = "_durable_tab"


def attach() -> None:
    """Have every Flower that is made in this process from now on, or is about to serve, get the
    tab; safe to call again.
    """
    cls = getattr(sys.modules.get("flower.app"), "Flower", None)
    if cls is None or _MARK in vars(cls):
        return
    setattr(cls, _MARK, True)
    # the last is the first to bind, in Flower 2.2
    for name in ("__init__", "start", "start_http_server"):
        if name in vars(cls):
            setattr(cls, name, _followed(vars(cls)[name], is_before=name != "__init__"))


def _followed(original: Callable[..., Any], *, is_before: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_before:
            add_tab(self)
        answer = original(self, *args, **kwargs)
        add_tab(self)
        return answer

    return method


def add_tab(flower_app: Any) -> bool:
    """Add the tab to one Flower, once; False if it has none.

    Args:
        flower_app: a ``flower.app.Flower``, before it serves.
    """
    known = vars(flower_app).get(_MARK)
    durable = getattr(vars(flower_app).get("capp"), "durable", None)
    if known is not None or durable is None:
        return bool(known)
    if not durable.app.conf.get("durable_flower_tab", True):
        return False
    try:
        from .install import install

        install(flower_app, durable)
        is_there = True
    except Exception as error:
        is_there = False
        log.warning(
            "Flower %s is shown without the tab Orchestrations, which does not fit it: %s: %s."
            " Everything else works; durable_flower_tab = False silences this",
            _version(),
            type(error).__name__,
            error,
        )
        log.debug("why the tab does not fit", exc_info=True)
    setattr(flower_app, _MARK, is_there)
    return is_there


def _version() -> str:
    return str(getattr(sys.modules.get("flower"), "__version__", "?"))
