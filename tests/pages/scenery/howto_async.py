"""What the page on async code takes for granted."""

from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.pages.scenery.shop import app, durable, fulfil_order


class Base(DeclarativeBase):
    """Of the page's tables."""


class Order(Base):
    """An order."""

    __tablename__ = "orders"
    id: Mapped[str] = mapped_column(primary_key=True)


engine: Any = sa.create_engine("sqlite://")  # an asynchronous one to its reader
httpx.AsyncClient = lambda: httpx.Client  # no request is made
