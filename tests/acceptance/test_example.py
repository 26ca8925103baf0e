"""The example project: started, steered and killed as its README says."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import wait_until

EXAMPLE = Path(__file__).resolve().parents[2] / "example_project"


@pytest.fixture(params=["embedded", "servers"])
def shop(request, application):
    variables = {}
    if request.param == "servers":
        redis_url = request.getfixturevalue("redis_url")
        variables = {
            "SHOP_BROKER": redis_url,
            "SHOP_BACKEND": redis_url,
            "SHOP_STORE": request.getfixturevalue("postgres_url"),
        }
    app = application(**variables)
    for module in EXAMPLE.glob("*.py"):
        shutil.copy(module, app.directory)
    if variables:
        # the test's own keys on a Redis that others use too
        prefix = f"shop-{app.directory.name}:"
        options = {"global_keyprefix": prefix}
        with open(app.directory / "shop.py", "a") as module:
            module.write(f"\napp.conf.broker_transport_options = {options!r}\n")
            module.write(f"app.conf.result_backend_transport_options = {options!r}\n")
        app.python("-c", "from shop import durable; durable.migrate()")
        request.addfinalizer(lambda: forget(variables["SHOP_BROKER"], prefix))
    app.start_worker()
    return app


def forget(url, prefix):
    import redis

    client = redis.Redis.from_url(url)
    for key in list(client.scan_iter(f"*{prefix}*")):
        client.delete(key)
    client.close()


def shown(app, order_id, text):
    wait_until(lambda: text in app.python("orders.py", "show", order_id), 60, f"{order_id} {text}")


def test_orders_are_fulfilled_declined_and_canceled(shop):
    shop.python("orders.py", "start", "order-1", "lamp", "desk")
    assert "'parcel': 'parcel-order-1'" in shop.python("orders.py", "wait", "order-1")

    shop.python("orders.py", "start", "order-2", "piano", "--total", "900")
    shown(shop, "order-2", "waiting for approval")
    shop.kill_worker()
    shop.start_worker()
    shop.python("orders.py", "approve", "order-2")
    assert "'parcel': 'parcel-order-2'" in shop.python("orders.py", "wait", "order-2")

    shop.python("orders.py", "start", "order-3", "piano", "--total", "900")
    shop.python("orders.py", "decline", "order-3", "--by", "bob")
    assert "PermissionError: declined by bob" in shop.python("orders.py", "wait", "order-3", code=1)
    assert "shop.refund" in shop.python("orders.py", "show", "order-3")

    shop.python("orders.py", "start", "order-4", "piano", "--total", "900")
    shown(shop, "order-4", "waiting for approval")
    shop.python("orders.py", "cancel", "order-4", "--reason", "changed my mind")
    assert "OrchestrationRevoked" in shop.python("orders.py", "wait", "order-4", code=1)

    shop.python("orders.py", "start", "order-5", "unicorn")
    assert "OutOfStock: unicorn" in shop.python("orders.py", "wait", "order-5", code=1)

    assert "5 in all" in shop.python("orders.py", "list")
    assert "1 in all" in shop.python("orders.py", "list", "--status", "CANCELED")
    assert "InstanceNotFound" in shop.python("orders.py", "show", "order-6", code=1)


def test_stock_is_taken(shop):
    counts = shop.python("orders.py", "stock", *[f"item-{number}" for number in range(9)], "unicorn")
    assert "'item-8': 6" in counts
    assert "unicorn" not in counts
