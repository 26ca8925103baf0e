from django.urls import path

from . import views

urlpatterns = [
    path("reservations/<str:order>/<str:sku>", views.reservation),
    path("parcels", views.parcels),
    path("parcels/<str:number>", views.parcel),
    path("orders/<str:order>/recall", views.recall),
]
