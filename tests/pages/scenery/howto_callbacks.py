"""What the page on callbacks takes for granted: a project in Django, and an encoder elsewhere."""

import json
from hashlib import sha256
from types import SimpleNamespace

from django.db import connection, models, transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from celery_durable.engine.completion_tokens import sealed
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.testing import fake_durable_context
from tests.pages.scenery.django_project import app, durable

token = sealed("of another store", ActivityAttemptId("0123456789abcdef0123", 1, 1))
Job = SimpleNamespace


class Encoder:
    def __init__(self):
        self.callbacks = []

    def submit(self, url, callback):
        self.callbacks.append(callback)


encoder = Encoder()


class Video(models.Model):
    url = models.CharField(max_length=200)
    size = models.IntegerField(null=True)

    class Meta:
        app_label = "shop"


with connection.schema_editor() as editor:
    editor.create_model(Video)


@app.task
def announce(size):
    return size


def end(env, names):
    names["test_the_function_alone"]()
    run = env.start(names["publish"].s("a.mov"))
    Video.objects.create(url="a.mov")
    given = encoder.callbacks[-1].rpartition("/")[2]
    for token, code in ((given[1:], 404), (given, 204), (given, 204)):
        body = json.dumps({"url": "a.mov", "size": 3})
        request = RequestFactory().post("/", body, content_type="application/json")
        assert names["encoded"](request, token).status_code == code
    env.run_until_idle()
    assert run.refresh().runtime_status == "COMPLETED"
    assert Video.objects.get().size == 3
    assert len(env.calls(announce)) == 1
    names["test_publish"](env)
