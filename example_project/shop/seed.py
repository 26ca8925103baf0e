"""What the shop begins with: products on the shelves, customers, and someone who works there."""

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import transaction

from warehouse.models import Shelf

from .models import Customer, Product

PRODUCTS = [
    ("filters", "Paper filters", "A hundred of them.", 4_50, 500),
    ("house-blend", "House blend", "Chocolate and hazelnut, 500 g.", 12_90, 500),
    ("sencha", "Sencha", "Green tea from Kagoshima, 100 g.", 14_00, 500),
    ("yirgacheffe", "Yirgacheffe", "Bergamot and apricot, 500 g.", 17_50, 500),
    ("kettle", "Gooseneck kettle", "One litre, for a steady hand.", 79_00, 100),
    ("grinder", "Hand grinder", "Steel burrs, forty settings.", 149_00, 100),
    (
        "espresso",
        "Espresso machine",
        "Two boilers. Has to be approved, as all that is over 500.",
        1_290_00,
        50,
    ),
    ("siphon", "Siphon of 1964", "There is only this one.", 240_00, 1),
]
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
)
PASSWORD = "demo"


@transaction.atomic
def seed(customers=2000):
    """Make what is missing; what is there is left alone."""
    for sku, name, description, price, quantity in PRODUCTS:
        Product.objects.get_or_create(
            sku=sku, defaults={"name": name, "description": description, "price": price}
        )
        Shelf.objects.get_or_create(sku=sku, defaults={"quantity": quantity})
    password = make_password(PASSWORD)
    add_person("staff", password, is_staff=True, is_superuser=True)
    for name, card in (("ada", "tok_visa"), ("bob", "tok_declined")):
        user = add_person(name, password)
        details = {"name": name.title(), "email": user.email, "card": card}
        Customer.objects.get_or_create(user=user, defaults=details)
    there = Customer.objects.filter(user=None).count()
    Customer.objects.bulk_create(
        Customer(
            name=f"Customer {n}",
            email=f"customer-{n}@shop.example",
            time_zone=ZONES[n % len(ZONES)],
        )
        for n in range(there + 1, customers + 1)
    )


def add_person(name, password, **rights):
    defaults = {"email": f"{name}@shop.example", "password": password, **rights}
    return get_user_model().objects.get_or_create(username=name, defaults=defaults)[0]
