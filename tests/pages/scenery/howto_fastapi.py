"""What the page on FastAPI takes for granted: the example's own files, tables, and a2wsgi."""

import os
import sys
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.pages.blocks import ROOT

sys.path.insert(0, str(ROOT / "docs" / "examples" / "fastapi_app"))
os.environ["OPS_TOKEN"] = "sixteen-characters-or-more"
a2wsgi = sys.modules["a2wsgi"] = ModuleType("a2wsgi")
a2wsgi.WSGIMiddleware = lambda application: application


class Base(DeclarativeBase):
    """Of the page's tables."""


class Placed(Base):
    """An order."""

    __tablename__ = "placed"
    id: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[int]


engine: Any = sa.create_engine("sqlite://")  # an asynchronous one to its reader
