"""What the page on Flask takes for granted: tables, and modules that are the page's own blocks."""

import sys
import tempfile

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

sys.modules["shop"] = sys.modules["page"]


class Base(DeclarativeBase):
    """Of the page's tables."""


class Order(Base):
    """An order."""

    __tablename__ = "orders"
    id: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[int]


def prove(names):
    """Rows and start are one commit; the page's own test and the views do what they say."""
    names["test_an_order_expires"]()
    url = f"sqlite:///{tempfile.mkdtemp()}/shop.db"
    app = names["create_app"](CELERY={"broker_url": "memory://", "durable_backend_url": url})
    durable = app.extensions["durable"]
    durable.migrate()
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    with app.app_context(), Session(engine) as session:
        names["place_order"](session, "1", 99)
        assert durable.get("order-1").runtime_status == "PENDING"
        assert session.get(Order, "1").amount == 99
    client = app.test_client()
    assert client.get("/orders/2").status_code == 404
    with names["durable_environment"](durable) as env:
        for _ in range(2):
            assert client.post("/orders", json={"id": "2", "amount": 9}).status_code == 202
        env.run_until_idle()
        assert client.get("/orders/2").get_json()["stage"] == "waiting for approval"
        assert client.post("/orders/2/approve", json={"by": "ada"}).status_code == 202
        env.run_until_idle()
        assert client.get("/orders/2").get_json()["result"]["receipt"] == "2 paid 9 EUR"
        assert client.post("/orders/2/approve", json={"by": "ada"}).status_code == 409
