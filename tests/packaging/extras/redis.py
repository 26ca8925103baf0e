"""A worker that gets its messages by Redis."""

from shop import app, pay_an_order

print(f"{pay_an_order()}, by {app.connection_for_read().transport.driver_type}")
