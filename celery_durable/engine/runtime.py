"""The engine of one process as handles reach it; the layer above puts it together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..core.ports import Codec
    from ..settings import Settings
    from .client import Client
    from .engine import Engine
    from .ports import Publisher
    from .registry import Registry
    from .store_ports import Store

__all__ = ["Runtime"]


class Runtime(Protocol):
    """The parts of the engine, each made once in a process."""

    @property
    def settings(self) -> Settings:
        """The settings that the parts were made with."""

    @property
    def store(self) -> Store:
        """Where everything is kept."""

    @property
    def registry(self) -> Registry:
        """The orchestrators that this process knows."""

    @property
    def codec(self) -> Codec:
        """How values become text."""

    @property
    def publisher(self) -> Publisher:
        """How messages are sent."""

    @property
    def client(self) -> Client:
        """What a client can do."""

    @property
    def runner(self) -> Engine:
        """What takes turns."""
