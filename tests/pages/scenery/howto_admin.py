"""What the page on the admin takes for granted."""

from django.contrib.admin import AdminSite

from tests.pages.scenery import django_project  # noqa: F401, I001

my_site = AdminSite("mine")
