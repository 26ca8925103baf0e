from django.urls import path

from . import views

urlpatterns = [
    path("", views.overview, name="faults"),
    path("on/", views.on, name="fault-on"),
    path("off/", views.off, name="fault-off"),
]
