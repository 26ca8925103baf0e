"""The packages whose context people expect to find in their tasks, as their manuals set them up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

CORRELATION = """
import json
import structlog
from asgi_correlation_id import correlation_id
from celery import Celery
from celery.signals import before_task_publish, task_postrun, task_prerun
from celery_durable import Durable
from celery_durable.testing import durable_environment

app = Celery("shop", broker="memory://")
app.conf.durable_propagate = ["CORRELATION_ID"]
durable = Durable(app)

@before_task_publish.connect
def transfer(headers, **_):
    headers["CORRELATION_ID"] = correlation_id.get()

@task_prerun.connect
def load(task, **_):
    correlation_id.set((task.request.headers or {}).get("CORRELATION_ID"))

@task_postrun.connect
def unload(**_):
    correlation_id.set(None)

class Structlog:
    key = "structlog"
    def capture(self):
        return structlog.contextvars.get_contextvars() or None
    def restore(self, value):
        return structlog.contextvars.bound_contextvars(**value)

durable.propagate(Structlog())

@app.task
def look():
    return [correlation_id.get(), structlog.contextvars.get_contextvars()]

@durable.orchestrator
async def run(ctx):
    first = [correlation_id.get(), structlog.contextvars.get_contextvars()]
    await ctx.sleep(60)
    return [first, await ctx.call(look.s())]

with durable_environment(durable) as env:
    correlation_id.set("abc")
    structlog.contextvars.bind_contextvars(user="ada")
    started = durable.start(run.s())
    correlation_id.set(None)
    structlog.contextvars.clear_contextvars()
    env.advance(hours=1)
    print(json.dumps(started.refresh().output))
"""

SENTRY = """
import json
import sentry_sdk
from celery import Celery
from sentry_sdk.integrations.celery import CeleryIntegration
from celery_durable import Durable
from celery_durable.testing import durable_environment

app = Celery("shop", broker="memory://")
app.conf.durable_propagate = ["sentry-trace", "baggage"]
# Sentry would import whatever else it knows of that is installed here
sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=lambda _: None,
    auto_enabling_integrations=False, integrations=[CeleryIntegration()])
durable = Durable(app)

@app.task
def look():
    return sentry_sdk.get_current_span().trace_id

@durable.orchestrator
async def run(ctx):
    await ctx.sleep(60)
    return [ctx.context["sentry-trace"].partition("-")[0], await ctx.call(look.s())]

with durable_environment(durable) as env:
    with sentry_sdk.start_transaction(name="a view") as transaction:
        started = durable.start(run.s())
    env.advance(hours=1)
    print(json.dumps([transaction.trace_id, *started.refresh().output]))
"""

OPENTELEMETRY = """
import json
from celery import Celery
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from celery_durable import Durable
from celery_durable.testing import durable_environment

trace.set_tracer_provider(TracerProvider())
CeleryInstrumentor().instrument()
app = Celery("shop", broker="memory://")
app.conf.durable_propagate = ["traceparent"]
durable = Durable(app)

def here():
    return format(trace.get_current_span().get_span_context().trace_id, "032x")

@app.task
def look():
    return here()

@durable.orchestrator
async def child(ctx):
    return await ctx.call(look.s())

@durable.orchestrator
async def run(ctx):
    await ctx.sleep(60)
    turn = ctx.context["traceparent"].split("-")[1]
    return [turn, await ctx.call(look.s()), await ctx.call(child.s())]

with durable_environment(durable) as env:
    with trace.get_tracer("view").start_as_current_span("a view"):
        view = here()
        started = durable.start(run.s())
    env.advance(hours=1)
    print(json.dumps([view, *started.refresh().output]))
"""

TENANTS = """
import json, os, sys, types
import django
from django.conf import settings

url = json.loads(os.environ["DATABASE"])
settings.configure(
    DATABASES={"default": {"ENGINE": "django_tenants.postgresql_backend", **url}},
    DATABASE_ROUTERS=("django_tenants.routers.TenantSyncRouter",),
    SHARED_APPS=("django_tenants", "django.contrib.contenttypes", "customers"),
    TENANT_APPS=("django.contrib.contenttypes",),
    INSTALLED_APPS=("django_tenants", "django.contrib.contenttypes", "customers"),
    TENANT_MODEL="customers.Client", TENANT_DOMAIN_MODEL="customers.Domain",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True,
)
django.setup()
from celery import signals
from django.core.management import call_command
from django.db import connection
from customers.models import Client, Domain
from tenant_schemas_celery.app import CeleryApp
from celery_durable import Durable
from celery_durable.testing import durable_environment

app = CeleryApp("shop", broker="memory://")
app.conf.durable_propagate = ["_schema_name"]
durable = Durable(app)

@app.task
def look():
    return connection.schema_name

@durable.orchestrator
async def child(ctx):
    return [ctx.context["_schema_name"], await ctx.call(look.s())]

@durable.orchestrator
async def run(ctx):
    await ctx.sleep(60)
    return [await ctx.call(look.s()), await ctx.call(child.s())]

call_command("makemigrations", "customers", verbosity=0)
call_command("migrate_schemas", "--shared", verbosity=0)
Client.objects.create(schema_name="public", name="public")
acme = Client.objects.create(schema_name="acme", name="acme")
with durable_environment(durable) as env:
    connection.set_tenant(acme)
    started = durable.start(run.s())
    connection.set_schema_to_public()
    env.advance(hours=1)
    run = started.refresh()
    print(json.dumps([dict(run.context), run.output, connection.schema_name]))
"""
CUSTOMERS = """
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin

class Client(TenantMixin):
    name = models.CharField(max_length=100)
    auto_create_schema = True

class Domain(DomainMixin):
    pass
"""


def printed(folder: Path, code: str, **environment: str) -> Any:
    (folder / "main.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(folder / "main.py")],
        cwd=folder,
        env={
            **os.environ,
            **environment,
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_correlation_ids_and_the_context_of_structlog(tmp_path: Path) -> None:
    expected = ["abc", {"user": "ada"}]
    assert printed(tmp_path, CORRELATION) == [expected, expected]


def test_the_trace_of_sentry(tmp_path: Path) -> None:
    view, turn, activity = printed(tmp_path, SENTRY)
    assert view == turn == activity


def test_the_trace_of_opentelemetry(tmp_path: Path) -> None:
    view, *others = printed(tmp_path, OPENTELEMETRY)
    assert int(view, 16) and others == [view, view, view]


@pytest.mark.full
def test_the_tenant_of_tenant_schemas_celery(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "customers").mkdir()
    (tmp_path / "customers" / "__init__.py").write_text("")
    (tmp_path / "customers" / "models.py").write_text(CUSTOMERS)
    (tmp_path / "customers" / "migrations").mkdir()
    (tmp_path / "customers" / "migrations" / "__init__.py").write_text("")
    url = sa.make_url(postgres_url)
    database = {"NAME": url.database, "USER": url.username, "HOST": url.host, "PORT": url.port}
    context, output, after = printed(tmp_path, TENANTS, DATABASE=json.dumps(database))
    assert context == {"_schema_name": "acme"}
    assert output == ["acme", ["acme", "acme"]]
    assert after == "public"
