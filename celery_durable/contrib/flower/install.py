"""Adds the tab to a Flower: its pages, its templates, its metrics."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

from tornado.web import StaticFileHandler, url

from . import metrics, pages
from .flower_compat import ACT, ENTITIES, HERE, LIST, SCHEDULES, SHOW, STATIC, checked_loader

__all__ = ["install"]

_THREADS = 4
#: Pattern, handler, what it is made with, and the name by which links find it.
Rule = tuple[str, Any, dict[str, Any], str | None]


def install(flower_app: Any, durable: Any) -> None:
    """Add the tab to a Flower that does not serve yet.

    Raises:
        Exception: something is not as expected; then nothing was changed.
    """
    loader = checked_loader(flower_app)
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="durable-tab")
    shared = {"durable": durable, "executor": executor}
    measured = metrics.Measures(durable)
    rules = _rules(shared)
    if measured.are_there:
        rules.append((r"/metrics", metrics.DurableMetrics, {**shared, "measures": measured}, None))
    given = flower_app.options.url_prefix
    prefix = re.escape("/" + given.strip("/")) if given else ""
    made = [
        url(prefix + pattern, handler, arguments, name)
        for pattern, handler, arguments, name in rules
    ]
    events = flower_app.events.state.handlers
    # A name of its own for the folder: Tornado keeps one loader for each, for all applications of
    # the process.
    flower_app.settings["template_path"] = os.path.join(loader.root, "")
    flower_app.settings["template_loader"] = loader
    flower_app.add_handlers(".*$", made)
    if measured.are_there:
        events["durable"] = lambda subject, event: measured.note(event)


def _rules(shared: dict[str, Any]) -> list[Rule]:
    style = str(resources.files("celery_durable").joinpath("static"))
    return [
        (r"/orchestrations", pages.ListPage, shared, LIST),
        (r"/orchestrations/show", pages.InstancePage, shared, SHOW),
        (r"/orchestrations/act", pages.VerbPage, shared, ACT),
        (r"/orchestrations/schedules", pages.SchedulesPage, shared, SCHEDULES),
        (r"/orchestrations/entities", pages.EntitiesPage, shared, ENTITIES),
        (r"/orchestrations/static/(timeline\.css)", StaticFileHandler, {"path": style}, None),
        (
            r"/orchestrations/static/(tab\.(?:css|js))",
            StaticFileHandler,
            {"path": str(HERE / "static")},
            STATIC,
        ),
    ]
