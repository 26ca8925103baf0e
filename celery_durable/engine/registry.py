"""The orchestrators that this process knows, by name and version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from .flow import Flow

__all__ = ["Definition", "Registry"]


@dataclass(frozen=True)
class Definition:
    """One version of one orchestrator."""

    name: str
    version: str | None
    function: Callable[..., Any]
    max_activities: int | None = None
    flow: Flow | None = None
    retention: Mapping[str, int] | None = None


class Registry:
    """What can be run here. An instance keeps the version that it started with."""

    def __init__(self) -> None:
        self._definitions: dict[str, dict[str | None, Definition]] = {}

    def add(self, definition: Definition) -> None:
        """Register a definition; one that is there already is replaced, as in an interactive session."""
        if definition.version == "":
            raise ConfigurationError(f"orchestrator {definition.name}: version='' is not a version; leave it out")
        self._definitions.setdefault(definition.name, {})[definition.version] = definition

    def get(self, name: str, version: str | None) -> Definition | None:
        """Return the definition of exactly this name and version."""
        return self._definitions.get(name, {}).get(version)

    def newest(self, name: str) -> Definition | None:
        """Return the definition that new instances get: the last registered."""
        versions = self._definitions.get(name)
        return next(reversed(versions.values())) if versions else None

    def versions(self, name: str) -> list[str | None]:
        """Return the versions of a name, the newest last."""
        return list(self._definitions.get(name, {}))

    def __contains__(self, name: object) -> bool:
        return name in self._definitions

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._definitions)
