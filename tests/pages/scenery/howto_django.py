"""What the page on Django takes for granted: a project with orders and accounts."""

from celery import Celery
from django.db import connection, models

from tests.pages.scenery.django_project import durable, module

SKIPPED = {2: "of Django 6.0 and later: tests/django/test_tasks.py"}
INSTALLED_APPS: list[str] = []
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")


class Order(models.Model):
    name = models.CharField(max_length=50, default="")

    class Meta:
        app_label = "shop"


class Account(models.Model):
    balance = models.IntegerField()

    class Meta:
        app_label = "shop"


with connection.schema_editor() as editor:
    editor.create_model(Order)
    editor.create_model(Account)


@durable.orchestrator
async def fulfil_order(ctx, order_id):
    return order_id


module("shop.models", Order=Order, Account=Account)
module("shop.tasks", fulfil_order=fulfil_order)
