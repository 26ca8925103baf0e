"""What the tab needs of Flower: every name of Flower's, and every inner one of Tornado's, is used
here and nowhere else.

``checked_loader`` tells whether all of it is as expected before anything is changed, so that a
Flower that has changed stays whole. Made for Flower 2.0 to 2.2; a contract test says what a new
Flower must still offer.
"""

from __future__ import annotations

import asyncio
import logging
import os
from base64 import b64decode
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from flower.views import BaseHandler
from flower.views.monitor import Metrics
from tornado.template import Loader, Template
from tornado.web import HTTPError, RequestHandler, authenticated

from ...core.names import ActivityAttemptId
from ...inspection import drawing_words
from ...versions import demand

demand("flower")

__all__ = [
    "BaseHandler",
    "HTTPError",
    "Metrics",
    "TabHandler",
    "TabLoader",
    "authenticated",
    "checked_loader",
    "instance_of_task",
]

T = TypeVar("T")
log: logging.Logger = logging.getLogger("celery_durable.flower")
#: So many events after one that is linked are shown with it.
_AROUND = 100
HERE = Path(__file__).parent
#: Templates of ours are loaded under this name, which Flower has no folder of.
OURS = "durable/"
LIST, SHOW, ACT, SCHEDULES, ENTITIES, STATIC = (
    f"durable-{name}" for name in ("list", "show", "act", "schedules", "entities", "static")
)
_ITEM = """<li class="nav-item">
          <a class="nav-link{% if active_tab == 'orchestrations' %} active{% end %}" \
id="durable-tab"
            href="{{ reverse_url('durable-list') }}"
            {% if active_tab == 'orchestrations' %}aria-current="page"{% end %}>Orchestrations</a>
        </li>
      """
_CONTAINER = "{% block container %}"
_OF_TASK = """
{% set durable_link = durable_link_of(task) %}
{% if durable_link %}<p class="page-section mb-0" id="durable-of-task">
<a class="btn btn-sm btn-outline-primary" href="{{ durable_link }}">Orchestration</a></p>{% end %}
"""
_OPTIONS = ("basic_auth", "auth", "url_prefix")
_HANDLER = ("render", "get_current_user", "check_xsrf_cookie", "write_error", "capp")
_NEEDED = {
    "base.html": ("{% block container %}", "{% block navbar %}", "{% block extra_scripts %}"),
    "navbar.html": ("</ul>",),
}


class TabLoader(Loader):
    """Flower's own templates, with one more entry in the navigation, and ours beside them."""

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Return the name of a template that another one names: ours are never relative."""
        if name.startswith(OURS) or (parent_path is not None and parent_path.startswith(OURS)):
            return name
        return str(super().resolve_path(name, parent_path))

    def _create_template(self, name: str) -> Template:
        if name.startswith(OURS):
            text = (HERE / "templates" / name.removeprefix(OURS)).read_text("utf-8")
            return Template(text, name=name, loader=self)
        if name not in ("navbar.html", "task.html"):
            return super()._create_template(name)
        text = self.source(name)
        if name == "task.html":
            text = text.replace(_CONTAINER, _CONTAINER + _OF_TASK, 1)
            return Template(text, name=name, loader=self)
        end = text.index("</ul>")  # of the first list: the pages
        return Template(text[:end] + _ITEM + text[end:], name=name, loader=self)

    def source(self, name: str) -> str:
        """Return the text of one of Flower's templates."""
        return Path(self.root, name).read_text("utf-8")


def checked_loader(flower_app: Any) -> TabLoader:
    """Return a loader for a Flower that has all that we need.

    Raises:
        Exception: something is not as expected.
    """
    for owner, names in ((flower_app.options, _OPTIONS), (BaseHandler, _HANDLER)):
        for name in names:
            getattr(owner, name)
    if not issubclass(BaseHandler, RequestHandler) or not issubclass(Metrics, BaseHandler):
        raise TypeError("its handlers are of another kind")
    "id" in flower_app.events.state.tasks  # noqa: B015
    flower_app.reverse_url("main")
    flower_app.reverse_url("task", "id")
    of_task = {"durable_link_of": partial(_link_of_task, flower_app)}
    loader = TabLoader(flower_app.settings["template_path"], namespace=of_task)
    for name, parts in _NEEDED.items():
        if missing := [part for part in parts if part not in loader.source(name)]:
            raise LookupError(f"its template {name} has no {', '.join(missing)}")
    for file in sorted((HERE / "templates").glob("*.html")):
        loader.load(OURS + file.name)
    return loader


def _link_of_task(flower_app: Any, task: Any) -> str | None:
    """Return the URL of the page of the orchestration that a task is, or belongs to; None if it is
    no part of one.

    Events alone tell: the store is not asked on Flower's loop.
    """
    try:
        found = instance_of_task(task, flower_app.capp.durable.registry)
        address = flower_app.reverse_url(SHOW)
    except Exception:
        log.debug("a task has no link to the tab", exc_info=True)
        return None
    return None if found is None else f"{address}?{urlencode({'id': found})}"


def instance_of_task(task: Any, registry: Container[str]) -> str | None:
    """Return the id of the orchestration that a task of Celery's event state is, or an activity of.

    An orchestration is known by its name, where its code is here, or by its activities.
    """
    if ActivityAttemptId.parse(task.uuid) is not None:
        parent: str | None = task.parent_id or task.root_id
        return parent
    is_one = task.name in registry or any(
        ActivityAttemptId.parse(each.uuid) is not None for each in task.children or ()
    )
    return str(task.uuid) if is_one else None


class TabHandler(BaseHandler):
    """What all our pages share: Flower's authentication, arguments as they were sent, and threads
    for the store.
    """

    def initialize(self, durable: Any, executor: ThreadPoolExecutor, **_: Any) -> None:
        """Take what ``install`` gives to every page."""
        self.durable = durable
        self._executor = executor

    async def off_loop(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Do something that waits for the store, in a thread: Flower answers others meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, partial(work, *args, **kwargs)
        )

    # -- who may what ------------------------------------------------------------------------------

    @property
    def is_read_only(self) -> bool:
        """Whether this Flower changes nothing (``--read-only``)."""
        return bool(getattr(self.application.options, "read_only", False))

    @property
    def is_protected(self) -> bool:
        """Whether Flower asks its users who they are, or was told to let everybody do everything.

        Else no user may steer.
        """
        options = self.application.options
        if options.basic_auth or options.auth:
            return True
        return os.environ.get("FLOWER_UNAUTHENTICATED_API", "").lower() in (
            "1",
            "true",
            "t",
            "yes",
            "y",
            "on",
        )

    @property
    def user(self) -> str | None:
        """The name of who asks, if Flower knows it."""
        if isinstance(self.current_user, str):
            return self.current_user
        if not self.application.options.basic_auth:
            return None
        credentials = b64decode(self.request.headers.get("Authorization", "").partition(" ")[2])
        return credentials.decode().partition(":")[0]

    def check_xsrf_cookie(self) -> None:
        """Do all checks of Flower's, and always ask for the token of the form: our pages
        have one.
        """
        if self.current_user is None:
            raise HTTPError(401)
        if self.request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise HTTPError(403, "Cross-site request forbidden")
        super().check_xsrf_cookie()
        RequestHandler.check_xsrf_cookie(self)

    # -- what was asked ----------------------------------------------------------------------------

    def given(self, name: str, default: str = "") -> str:
        """Return an argument of the URL as it was sent.

        Flower's own way escapes it, Tornado's takes characters away.
        """
        return self._last(self.request.query_arguments, name, default)

    def posted(self, name: str, default: str = "") -> str:
        """Return a field of the form as it was sent."""
        return self._last(self.request.body_arguments, name, default)

    def _last(self, arguments: Any, name: str, default: str) -> str:
        values = arguments.get(name)
        try:
            return values[-1].decode() if values else default
        except UnicodeDecodeError:
            raise HTTPError(400, f"{name} is not UTF-8") from None

    # -- what is answered --------------------------------------------------------------------------

    def link(self, where: str, /, **arguments: Any) -> str:
        """Return the URL of one of our pages.

        Ids go into the query, where they may hold anything.
        """
        chosen = {key: value for key, value in arguments.items() if value not in (None, "", False)}
        address = self.reverse_url(where)
        return f"{address}?{urlencode(chosen)}" if chosen else str(address)

    def knows_task(self, task_id: str) -> bool:
        """Tell whether Flower has seen events of a task: else it has no page of it."""
        return task_id in self.application.events.state.tasks

    def task_link(self, task_id: str) -> str:
        """Return the URL of Flower's own page of a task."""
        return str(self.reverse_url("task", task_id))

    def event_link(self, instance_id: str, number: int) -> str:
        """Return the URL of an event of an orchestration, by its number, with some after it."""
        return f"{self.link(SHOW, id=instance_id, until=number + _AROUND)}#event-{number}"

    def breakable(self, name: str) -> str:
        """Return a name as markup that is broken after its separators, not inside its words."""
        return drawing_words.breakable(name)

    def asset(self, name: str) -> str:
        """Return the URL of a static file of ours."""
        return f"{self.reverse_url(LIST)}/static/{name}"

    def show(self, template: str, status: int = 200, **values: Any) -> None:
        """Answer with one of our pages, which no other site may frame or cache."""
        self.set_status(status)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", "frame-ancestors 'none'")
        _ = self.xsrf_token  # sets the cookie, which older Flowers do not
        self.render(OURS + template, page=self, **values)
