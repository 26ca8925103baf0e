"""The store in another database than Django's: the admin does not read Django's models."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Site
from .test_list import shown


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'elsewhere.db'}"


def test_the_admin_shows_and_steers_a_store_elsewhere(site: Site) -> None:
    from django.db import connection

    from tests.django.project.orders import tasks

    site.start(tasks.approval, "x", id="order-1")
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM durable_instances")
        assert cursor.fetchone() == (0,)
        for table in ("history", "inbox", "outbox", "instances", "schedules"):
            cursor.execute(f"DROP TABLE durable_{table}")
    assert shown(site.get(site.address("instance_changelist"))) == ["order-1"]
    assert site.page("order-1").find("svg")
    page = site.apply("suspend", "order-1", reason="why", from_page="yes")
    assert "1 orchestration was suspended" in page.text
    assert "why" in site.get(site.address("instance_history", "order-1")).text
    site.durable.entity(tasks.Counter, "visits").signal.add(1)
    assert "visits" in site.get(site.address("entity_changelist")).text
    assert site.get(site.address("schedule_changelist")).text
    # the application's index
    assert site.get(site.address("instance_changelist").removesuffix("instance/")).text
    assert site.client.get("/admin/").status_code == 200


def test_a_project_without_tables_is_told(site: Site) -> None:
    database = site.durable.runtime.store.database
    site.durable.find(limit=1)
    with database.using() as engine, engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE durable_instances")
    page = site.get(site.address("instance_changelist"), 503)
    assert page.find("p", id="durable-problem", role="alert")


def test_another_admin_site_links_to_itself(site: Site) -> None:
    from django.contrib.admin import AdminSite
    from django.contrib.auth.models import User
    from django.test import RequestFactory, override_settings
    from django.urls import path

    from celery_durable.contrib.django.admin import InstanceAdmin
    from celery_durable.contrib.django.models import Instance
    from tests.django.project import urls
    from tests.django.project.orders import tasks

    other = AdminSite(name="operations")
    other.register(Instance, InstanceAdmin)
    site.start(tasks.approval, "x", id="order-1")

    class Both:
        urlpatterns = [*urls.urlpatterns, path("operations/", other.urls)]

    with override_settings(ROOT_URLCONF=Both):
        request = RequestFactory().get("/operations/celery_durable/instance/")
        request.user = User.objects.get(username="user0")
        response = other._registry[Instance].changelist_view(request)
        text = response.render().content.decode()
    assert '"/operations/celery_durable/instance/order-1/change/"' in text
    assert "/admin/celery_durable/instance/order-1" not in text


def test_an_approval_whose_length_is_no_number_is_an_answer_without_choice(site: Site) -> None:
    from django.test import override_settings
    from django.urls import include, path

    from celery_durable.contrib.django.http import signed_event_url
    from tests.django.project.orders import tasks

    class Served:
        urlpatterns = [path("durable/", include("celery_durable.contrib.django.urls"))]

    site.start(tasks.approval, "x", id="order-1")
    with override_settings(ROOT_URLCONF=Served):
        link = signed_event_url("order-1", "approved", {"Yes": True})
        assert site.client.post(link, {"choice": "0"}, CONTENT_LENGTH="long").status_code == 400
        assert site.status("order-1") == "RUNNING"
        assert site.client.post(link, {"choice": "0"}).status_code == 200
