"""Flower's tab, with an instance of the store in it."""

import socket
from urllib.error import URLError
from urllib.request import urlopen

from beside import running, wait_until

from shop import ask, durable


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def page(path):
    """Return a page of Flower's; nothing while it does not listen yet."""
    try:
        return urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60).read().decode()
    except URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return ""
        raise


port = free_port()
durable.start(ask.s(), instance_id="order-42")
with running(
    "flower.log", "-m", "celery", "-A", "shop", "flower", "--address=127.0.0.1", f"--port={port}"
):
    listed = wait_until(lambda: page("orchestrations"), "Flower")
    shown = page("orchestrations/show?id=order-42")
    tasks = page("tasks")
found = 'id="durable-tab"' in tasks, "order-42" in listed, "shop.ask" in shown
print(*found)
