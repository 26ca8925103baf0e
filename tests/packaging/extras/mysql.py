"""A worker with its store in MariaDB."""

from shop import durable, pay_an_order

print(f"{pay_an_order()}, in {durable.runtime.store.database.url.get_backend_name()}")
