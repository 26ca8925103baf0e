"""Metrics of a store with an instance: in an application's own page, and from the exporter."""

import re
from types import SimpleNamespace
from urllib.request import urlopen

from beside import running, wait_until

from shop import durable, pay


def pending(text):
    """Return how many instances are pending, by the metrics."""
    return re.search(
        r'^celery_durable_instances{orchestration="shop.pay",status="PENDING"} ([0-9.]+)$',
        text,
        re.M,
    )[1]


durable.start(pay.s("42", 99))
names = {"durable": durable, "request": SimpleNamespace(headers={})}
exec(open("page.py").read(), names)
kind = names["content_type"].partition(";")[0]

with running(
    "exporter.log", "-m", "celery", "-A", "shop", "durable", "exporter", "--port", "0"
) as log:
    address = wait_until(lambda: re.search(r"http://\S+/metrics", log()), "the exporter")[0]
    served = urlopen(address).read().decode()
print(f"{pending(names['body'].decode())} in {kind}, {pending(served)} from the exporter")
