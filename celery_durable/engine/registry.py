"""The orchestrators that this process knows, by name and version."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._errors import ConfigurationError
from ..core.misspelt import which_is_meant
from ..core.names import LONGEST_VERSION, checked_name
from ..core.plain_task import TASK, run_plain_task
from .admission_policy import AdmissionPolicy

__all__ = ["Definition", "Registry", "refuse_another"]


@dataclass(frozen=True)
class Definition:
    """One version of one orchestrator."""

    #: Of the task.
    name: str
    #: None is the version of those that have none.
    version: str | None
    function: Callable[..., Any]
    #: So many activities of one instance run at a time; None is as many as there are.
    max_activities: int | None = None
    #: Which starts are admitted when; None admits all.
    flow: AdmissionPolicy | None = None
    #: Whether its next execution has the version that a new start would get.
    upgrade: bool = False
    #: How long a whole run may take, in microseconds, where its start says nothing; None has no
    #: limit.
    timeout: int | None = None
    #: Status -> microseconds after which an ended instance is purged; None is the setting's.
    retention: Mapping[str, int] | None = None
    #: Name -> what looks at ``ctx.state`` under it; filled after the declaration.
    queries: dict[str, Callable[..., Any]] = field(default_factory=dict, compare=False)

    def check(self) -> None:
        """Refuse what no column holds.

        Raises:
            ConfigurationError: the name or the version is no text, or too long.
        """
        try:
            checked_name(self.name, "the name of an orchestrator")
            if self.version is not None:
                checked_name(self.version, f"orchestrator {self.name}: a version", LONGEST_VERSION)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(str(error)) from None


class Registry:
    """What can be run here. An instance keeps the version that it started with."""

    def __init__(self) -> None:
        self._definitions: dict[str, dict[str | None, Definition]] = {}

    def declare(self, definition: Definition) -> None:
        """Register a definition of an application.

        Raises:
            ConfigurationError: another function has that name and version.
        """
        known = self.get(definition.name, definition.version)
        if known is not None:
            refuse_another(
                f"orchestrator {definition.name!r}",
                definition.version,
                known.function,
                definition.function,
            )
        self.add(definition)

    def add(self, definition: Definition) -> None:
        """Register a definition; one that is there already is replaced."""
        if definition.version in ("", "?", TASK):
            raise ConfigurationError(
                f"orchestrator {definition.name}: version={definition.version!r} is not a version;"
                " leave it out"
            )
        self._definitions.setdefault(definition.name, {})[definition.version] = definition

    def get(self, name: str, version: str | None) -> Definition | None:
        """Return the definition of exactly this name and version; any process has that of a plain
        task.
        """
        if version == TASK:
            return Definition(name, TASK, run_plain_task)
        return self._definitions.get(name, {}).get(version)

    def newest(self, name: str, *, but: str | None = "") -> Definition | None:
        """Return the definition that was registered last, of another version than ``but``.

        Raises:
            ConfigurationError: its name or its version is longer than the store keeps.
        """
        versions = reversed(self._definitions.get(name, {}).values())
        definition = next((each for each in versions if each.version != but), None)
        if definition is not None:
            definition.check()
        return definition

    def check(self) -> None:
        """Refuse definitions that nothing could be started of.

        Raises:
            ConfigurationError: a name or a version is longer than the store keeps.
        """
        for versions in self._definitions.values():
            for definition in versions.values():
                definition.check()

    def chosen(self, name: str, version: str | None) -> Definition | None:
        """Return the definition that a start gets: the one of the version that it names, or the
        newest.

        Raises:
            ConfigurationError: this process does not have the version, or its name is too long.
        """
        if version is None:
            return self.newest(name)
        found = self.get(name, version)
        if found is None and name not in self:
            question = which_is_meant(name, self._definitions, "{}")
            raise ConfigurationError(
                f"this process has no orchestrator {name}, and so no version {version!r} of it."
                f" {question or 'Import the module that declares it'}"
            )
        if found is None:
            known = ", ".join(
                "none" if each is None else repr(each) for each in self.versions(name)
            )
            raise ConfigurationError(
                f"orchestrator {name} has no version {version!r} in this process, which has {known}"
            )
        found.check()
        return found

    def versions(self, name: str) -> list[str | None]:
        """Return the versions of a name, the newest last."""
        return list(self._definitions.get(name, {}))

    def queries_of(self, definition: Definition) -> Mapping[str, Callable[..., Any]]:
        """Return the queries of an orchestrator: its own, and those of its other versions under
        names that it has none of.
        """
        versions = self._definitions.get(definition.name, {}).values()
        others = {name: each for version in versions for name, each in version.queries.items()}
        return {**others, **definition.queries}

    def __contains__(self, name: object) -> bool:
        return name in self._definitions

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._definitions)


# -- one name, one function ------------------------------------------------------------------------


def refuse_another(what: str, version: str | None, old: Any, new: Any) -> None:
    """Refuse a function or class under the name of another one.

    The same one may be imported again, or written again in a shell.

    Raises:
        ConfigurationError: it is another one.
    """
    if (difference := _difference(old, new)) is not None:
        of = "" if version is None else f" version {version!r}"
        raise ConfigurationError(
            f"{what}{of} is {_place(old)} already, {difference}: under one name there can be one"
            " only. Give each a name= of its own, or pass what makes them differ as an argument"
        )


def _difference(old: Any, new: Any) -> str | None:
    """Tell in what two differ that cannot be one and the same, imported again; None if they can."""
    if old is new:
        return None
    if _place(old) != _place(new) and "__main__" not in (_module(old), _module(new)):
        return f"and {_place(new)} is another one"
    was, now = _functions(old), _functions(new)
    if was.keys() != now.keys() or any(_code(was[name]) is not _code(now[name]) for name in was):
        return None  # compiled again
    if all(_same(_values(was[name]), _values(now[name])) for name in was) and _same(
        _attributes(old), _attributes(new)
    ):
        return None
    return "and the one declared now has other values around the same code"


def _inner(function: Any) -> Any:
    """Return the function that decorators are made around, of a method too."""
    found = inspect.unwrap(function)
    return getattr(found, "__func__", found)


def _module(value: Any) -> str:
    return str(getattr(_inner(value), "__module__", ""))


def _place(value: Any) -> str:
    inner = _inner(value)
    return f"{_module(inner)}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"


def _functions(value: Any) -> dict[str, Any]:
    """Return the functions of a class, or a function itself."""
    if inspect.isclass(value):
        return {name: each for name, each in vars(value).items() if inspect.isfunction(each)}
    return {"": value}


def _code(function: Any) -> Any:
    return getattr(_inner(function), "__code__", type(_inner(function)))


def _values(function: Any) -> list[Any]:
    """Return what is around the code of a function: closed-over values, defaults, the object of a
    method.
    """
    inner = _inner(function)
    if not hasattr(inner, "__code__"):
        return [inner]
    found: list[Any] = []
    for cell in inner.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not set yet
            found.append(None)
    return [*found, inner.__defaults__, inner.__kwdefaults__, getattr(function, "__self__", None)]


def _attributes(value: Any) -> list[Any]:
    """Return the values that a class has beside its functions."""
    if not inspect.isclass(value):
        return []
    return [
        (name, each)
        for name, each in sorted(vars(value).items())
        if not name.startswith("__") and not callable(each)
    ]


def _same(old: list[Any], new: list[Any]) -> bool:
    def equal(one: Any, other: Any) -> bool:
        try:
            return one is other or bool(one == other)
        except Exception:  # of whatever is compared
            return False

    return len(old) == len(new) and all(map(equal, old, new))
