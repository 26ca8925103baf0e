"""All pages: the shop, its admin, the orchestrations' HTTP API, and the fakes that stand for other
companies.
"""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", include("shop.urls")),
    path("admin/", admin.site.urls),
    path("durable/", include("celery_durable.contrib.django.urls")),
    path("faults/", include("fakes.urls")),
    path("fakes/payments/", include("payments.urls")),
    path("favicon.ico", RedirectView.as_view(url=static("shop/icon.svg"))),
    path("fakes/warehouse/", include("warehouse.urls")),
]
