"""No password is shown: not in logs, errors, tracebacks, ``repr()``, ``celery report`` or ``celery
inspect``.

The secret is in the URL of the store before the host, url-encoded, or in the query; in the options
of the engine; and in the URL of the broker. The stores cannot be reached, so that every error path
speaks.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from celery import _state
from celery.app.utils import filter_hidden_settings
from kombu import Connection

from celery_durable.broker.transport import register
from celery_durable.errors import ConfigurationError
from celery_durable.store.database import Database
from tests.conftest import wait_until
from tests.nodes import ROOT, WorkerProcess, free_port
from tests.witnesses import recovery_of

from . import hostileapp
from .garbage import raised_by

PLAIN = "Tr0ub4dor"
ODD = "Tr0ub4dor/&@3:x%"
NEEDLE = "Tr0ub4dor"
HOST = "127.0.0.1:1"
BEFORE_HOST = {
    "postgresql": f"postgresql+psycopg://someone:{PLAIN}@{HOST}/db",
    "postgresql, encoded": f"postgresql+psycopg://someone:{quote(ODD, safe='')}@{HOST}/db",
    "mysql": f"mysql+pymysql://someone:{PLAIN}@{HOST}/db",
    "mariadb, encoded": f"mariadb+pymysql://someone:{quote(ODD, safe='')}@{HOST}/db",
}
IN_QUERY = {
    "postgresql, query": f"postgresql+psycopg://someone@{HOST}/db?password={PLAIN}",
    "postgresql, ssl": f"postgresql+psycopg://someone@{HOST}/db?sslmode=prefer&sslpassword={PLAIN}",
    "postgresql, encoded query": (
        f"postgresql+psycopg://someone@{HOST}/db?password={quote(ODD, safe='')}"
    ),
    "mysql, query": f"mysql+pymysql://someone@{HOST}/db?password={PLAIN}",
    "sqlite, query": f"sqlite:////no/such/folder/store.db?password={PLAIN}",
}
WRONG = {
    "no driver": f"postgresql+nosuchdriver://someone:{PLAIN}@{HOST}/db",
    "driver not installed": f"postgresql+pg8000://someone:{PLAIN}@{HOST}/db",
    "unknown database": f"oracle://someone:{PLAIN}@{HOST}/db",
    "no port": f"postgresql+psycopg://someone:{PLAIN}@127.0.0.1:port/db",
    "no url": f"someone:{PLAIN}@{HOST}",
    "unknown option": f"postgresql+psycopg://someone:{PLAIN}@{HOST}/db?nosuchoption=1",
    "unknown option of mysql": f"mysql+pymysql://someone:{PLAIN}@{HOST}/db?nosuchoption=1",
}


every_url = pytest.mark.parametrize(
    "url",
    [pytest.param(url, id=name) for name, url in {**BEFORE_HOST, **WRONG, **IN_QUERY}.items()],
)


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    apps: list[Any] = []

    def make(url: str, broker: str = "memory://", **conf: Any) -> Any:
        if not url.startswith("sqlite"):
            conf = {"durable_backend_options": {"connect_args": {"password": PLAIN}}, **conf}
        app = hostileapp.make(url, broker, durable_store_patience=0, **conf)
        apps.append(app)
        return app

    shared = set(_state._on_app_finalizers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield make
    for app in apps:
        app.close()
    _state._on_app_finalizers.intersection_update(shared)


def told_by(call: Callable[[], Any]) -> str:
    """Everything that one gets to see of a call: its text, or its error with causes, notes and
    facts; and all logs.
    """
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        text = str(call())
    except BaseException as error:
        chain: list[str] = []
        seen: BaseException | None = error
        while seen is not None:
            chain += [str(seen), repr(seen), repr(seen.args), repr(getattr(seen, "facts", ""))]
            seen = seen.__cause__ or seen.__context__
        text = "".join(traceback.format_exception(error)) + "".join(chain)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return text + stream.getvalue()


def assert_hidden(text: str) -> None:
    lines = [line for line in text.splitlines() if NEEDLE in line]
    assert not lines, lines[0][:300]


# -- errors, logs, tracebacks ----------------------------------------


@pytest.mark.sparse(2)
@every_url
def test_an_unreachable_store_is_named_without_its_password(
    make: Callable[..., Any], url: str
) -> None:
    app = make(url)
    durable, sale = app.durable, app.tasks["hostile.sale"]
    said = ""
    for call in (
        lambda: durable.get("x"),
        lambda: sale.apply_async((1,)),
        lambda: durable.find(),
        lambda: durable.count(name="x"),
        lambda: durable.raise_event("x", "y"),
        lambda: durable.migrate(),
        lambda: durable.runtime.store.id,
        lambda: durable.runtime.store.now(),
        lambda: durable.runtime.store.starts.insert(None),
    ):
        assert raised_by(call) is not None
        said += told_by(call)
    assert_hidden(said)


@pytest.mark.sparse(2)
@every_url
def test_recovery_and_activities_speak_of_the_store_without_its_password(
    make: Callable[..., Any], url: str
) -> None:
    app = make(url)
    error = raised_by(lambda: app.durable.runtime)
    if error is not None:
        return assert_hidden(told_by(lambda: app.durable.runtime))
    recovery = recovery_of(app.durable.runtime, "w")
    task = app.tasks["hostile.charge"]
    ticket = "d-0123456789abcdef0123-1-1"
    task.push_request(id=ticket, called_directly=False, headers={"durable": {"s": "0123456789ab"}})
    request = task.request
    try:
        said = told_by(lambda: task(1))
    finally:
        task.pop_request()
    said += told_by(lambda: recovery.tick(list, lambda _: None)) + told_by(
        recovery.repair_activities
    )
    said += told_by(lambda: app.backend.mark_as_failure(ticket, ValueError("x"), request=request))
    said += told_by(lambda: app.durable.runtime.publisher.publish_turn(_address()))
    assert said
    return assert_hidden(said)


def _address() -> Any:
    from celery_durable.engine.records import TurnAddress

    return TurnAddress("x", "hostile.sale", None, None)


@every_url
def test_the_text_of_a_database_hides_its_password(url: str) -> None:
    assert_hidden(told_by(lambda: f"{Database(url)} {Database(url)!r}"))


@pytest.mark.parametrize("url", [pytest.param(url, id=name) for name, url in BEFORE_HOST.items()])
def test_no_repr_shows_a_password(make: Callable[..., Any], url: str) -> None:
    runtime = make(url).durable.runtime
    for thing in (
        runtime.settings,
        runtime,
        runtime.runner,
        runtime.client,
        runtime.store,
        runtime.publisher,
    ):
        assert_hidden(repr(thing))


def test_a_repr_shows_something_at_all(make: Callable[..., Any]) -> None:
    """The proof that the test before this one looks at the right thing."""
    assert "worker_lease=10.0" in repr(make("sqlite:///somewhere.db").durable.settings)
    assert NEEDLE in str(sa.make_url(BEFORE_HOST["mysql"]).render_as_string(hide_password=False))


# -- Celery's own lists of settings ----------------------------------------


@pytest.mark.parametrize("url", [pytest.param(url, id=name) for name, url in IN_QUERY.items()])
def test_a_password_that_celery_would_list_is_refused(make: Callable[..., Any], url: str) -> None:
    """``celery report`` masks what is before the host, and nothing in the query."""
    with pytest.raises(ConfigurationError, match="in its query") as refusal:
        make(url).durable.runtime
    assert_hidden(str(refusal.value))


@pytest.mark.parametrize("url", [pytest.param(url, id=name) for name, url in BEFORE_HOST.items()])
def test_the_settings_that_celery_lists_are_censored(make: Callable[..., Any], url: str) -> None:
    app = make(url)
    table = app.conf.table(with_defaults=False, censored=True)
    assert "127.0.0.1" in table["durable_backend_url"] or "sqlite" in table["durable_backend_url"]
    assert_hidden(json.dumps(table, default=repr) + app.conf.humanize() + app.bugreport())
    assert_hidden(
        str(filter_hidden_settings({"durable_backend_url": url, "CELERY_DURABLE_BACKEND_URL": url}))
    )


# -- the embedded broker ----------------------------------------


@pytest.mark.parametrize(
    "url", [f"durable://someone:{PLAIN}@host/x.db", f"durable://:{PLAIN}@/x.db"]
)
def test_a_refused_broker_url_hides_its_password(make: Callable[..., Any], url: str) -> None:
    register()
    assert_hidden(
        told_by(lambda: Connection(url).ensure_connection(max_retries=1))
        + told_by(make("sqlite:///x", url).bugreport)
    )


def test_the_embedded_broker_shows_its_path_only(tmp_path: Path) -> None:
    register()
    with Connection(
        f"durable:///{tmp_path}/b.db?password={PLAIN}", transport_options={"password": PLAIN}
    ) as connection:
        assert str(tmp_path) in connection.as_uri()
        assert_hidden(
            connection.as_uri()
            + repr(connection)
            + told_by(connection.connect)
            + str(connection.transport)
        )


# -- the programs that people run ----------------------------------------


def environment(folder: Path, store: str, broker: str, **conf: Any) -> dict[str, str]:
    given = {"durable_backend_options": {"connect_args": {"password": PLAIN}}, **conf}
    return {
        "HOSTILE_STORE": store,
        "HOSTILE_BROKER": broker,
        "HOSTILE_MARKS": str(folder),
        "HOSTILE_CONF": json.dumps(given),
        "PYTHONPATH": os.pathsep.join([str(Path(hostileapp.__file__).parent), str(ROOT)]),
    }


def celery(given: dict[str, str], folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "celery", "-A", "hostileapp", *arguments]
    done = subprocess.run(
        command,
        env={**os.environ, **given},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout + done.stderr


def test_celery_report_hides_passwords(tmp_path: Path) -> None:
    broker = f"redis://:{PLAIN}@127.0.0.1:1/0"
    text = celery(
        environment(tmp_path, BEFORE_HOST["postgresql, encoded"], broker), tmp_path, "report"
    )
    assert "durable_backend_url" in text, text
    assert_hidden(text)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All that a worker whose store cannot be reached logs and answers.

    Its embedded broker works.
    """
    folder = tmp_path_factory.mktemp("talk")
    store = f"postgresql+psycopg://someone:{quote(ODD, safe='')}@127.0.0.1:{free_port()}/db"
    given = environment(
        folder,
        store,
        f"durable:///{folder / 'broker.db'}",
        durable_recovery_interval=0.2,
        durable_store_patience=0.2,
    )
    worker = WorkerProcess(
        given,
        folder / "worker.log",
        app="hostileapp",
        pool="threads",
        options=["-l", "DEBUG"],
        paths=[str(Path(hostileapp.__file__).parent)],
    )
    try:
        worker.wait_ready()
        app = hostileapp.make(store, f"durable:///{folder / 'broker.db'}")
        for id_ in ("d-0123456789abcdef0123-1-1", "plain"):
            app.send_task(
                "hostile.charge",
                (1,),
                task_id=id_,
                headers={"durable": {"n": 0}} if id_ != "plain" else None,
            )
        app.send_task("hostile.sale", (1,), task_id="started")
        wait_until(
            lambda: "recovery waits for the store" in worker.text(), 60, "the log of recovery"
        )
        wait_until(
            lambda: "the store is down" in worker.text() or "put back" in worker.text(),
            60,
            "the log of a task",
        )
        wait_until(
            lambda: "hostile.charge[plain] succeeded" in worker.text(), 60, "an ordinary task"
        )
        inspection = app.control.inspect(timeout=20, limit=1, destination=[worker.name])
        answers = {
            name: getattr(inspection, name)()
            for name in ("conf", "stats", "active", "registered", "report")
        }
        app.close()
        assert all(answers.values()), answers
    finally:
        worker.kill()
    return json.dumps(answers, default=repr) + "\n" + worker.text()


def test_a_worker_neither_logs_nor_answers_a_password(talk: str) -> None:
    assert "durable_backend_url" in talk
    assert "127.0.0.1" in talk
    assert_hidden(talk)
