"""A new project of Django's with this package in it: what is started in ``atomic()`` is there with
the commit, or not at all.
"""

import os
import subprocess
import sys
from pathlib import Path

from beside import PATIENCE, PYTHON, worker

CELERY = """
import os
from celery import Celery
from celery_durable import Durable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["project"])
durable = Durable(app)
"""
TASKS = """
from celery import shared_task
from celery_durable import orchestrator
from django.contrib.auth.models import User

@shared_task
def charge(user, amount):
    return f"{User.objects.get(pk=user).username} paid {amount}"

@orchestrator
async def pay(ctx, user, amount):
    return await ctx.call(charge.s(user, amount))
"""


def make_project():
    """Make a project as Django does, and write into it what README and guide say."""
    subprocess.run([*PYTHON, "-m", "django", "startproject", "project", "."], check=True)
    with open("project/settings.py", "a") as settings:
        settings.write(Path("more_settings.py").read_text() + 'CELERY_BROKER_URL = "durable://"\n')
    Path("project/__init__.py").write_text("from .celery import app as celery_app\n")
    Path("project/celery.py").write_text(CELERY)
    Path("project/tasks.py").write_text(TASKS)
    subprocess.run([*PYTHON, "manage.py", "migrate", "-v", "0"], check=True)
    subprocess.run(
        [*PYTHON, "manage.py", "check", "--database", "default", "--fail-level", "ERROR"],
        check=True,
    )


make_project()
sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"

import django  # noqa: E402

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import transaction  # noqa: E402
from project.celery import durable  # noqa: E402
from project.tasks import pay  # noqa: E402

from celery_durable import InstanceNotFound  # noqa: E402


def start(instance_id, name, is_good):
    """Write a row and start an orchestration about it; return what comes of it."""
    with transaction.atomic():
        run = durable.start(
            pay.s(User.objects.create(username=name).pk, 99), instance_id=instance_id
        )
        transaction.set_rollback(not is_good)
    try:
        return durable.get(run.id).wait(timeout=PATIENCE)
    except InstanceNotFound:
        return "not there"


with worker("project", "-P", "solo"):
    print(f"order-1: {start('order-1', 'bob', False)}, order-2: {start('order-2', 'ann', True)}")
