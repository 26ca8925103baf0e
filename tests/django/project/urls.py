"""The project's URLs; tests of other surfaces add theirs."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
