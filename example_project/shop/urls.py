from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views

urlpatterns = [
    path("", views.catalogue, name="catalogue"),
    path("checkout/", views.checkout, name="checkout"),
    path("orders/", views.orders, name="orders"),
    path("orders/<int:number>/", views.order_page, name="order"),
    path("orders/<int:number>/progress", views.order_progress, name="order-progress"),
    path("orders/<int:number>/cancel/", views.cancel_order, name="order-cancel"),
    path("orders/<int:number>/return/", views.return_order, name="order-return"),
    path("timeline.css", views.timeline_css, name="timeline-css"),
    path("subscriptions/", views.subscriptions, name="subscriptions"),
    path("subscriptions/new/", views.subscribe, name="subscribe"),
    path(
        "subscriptions/<int:number>/change/", views.change_subscription, name="subscription-change"
    ),
    path("letters/", views.letters, name="letters"),
    path("webhooks/carrier/", views.carrier_webhook, name="carrier-webhook"),
    path("login/", LoginView.as_view(template_name="shop/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
