"""All that there is to look at in an application, in the order of its importance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .code import Known, Reader
from .configuration import about_configuration, longest_wait, own_tasks, place_of, plain_function
from .kinds import KINDS, Item
from .sources import Sources, sources_of

__all__ = ["Adoption", "adoption_of"]

_ORDER = {name: number for number, name in enumerate(KINDS)}


@dataclass
class Adoption:
    """What was found in an application."""

    app: str
    tasks: int
    files: int
    items: list[Item] = field(default_factory=list)
    #: Files that could not be read, with the reason.
    unread: list[str] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, int]:
        """How many there are of each kind, the important ones first."""
        counted = Counter(each.kind for each in self.items)
        return {name: counted[name] for name in KINDS if name in counted}


def adoption_of(app: Any) -> Adoption:
    """Return what to look at before an application adopts this package.

    Args:
        app: the Celery application, whose modules of tasks are imported.
    """
    tasks = own_tasks(app)
    sources = sources_of(app, tasks)
    known = _known(app, tasks)
    items = list(_in_files(sources, known))
    items += about_configuration(app, known, tasks, {str(source.path) for source in sources.files})
    ignored = {place for source in sources.files for place in source.ignored}
    items = [each for each in dict.fromkeys(items) if (each.file, each.line) not in ignored]
    items.sort(key=lambda each: (_ORDER[each.kind], each.file, each.line, each.found))
    return Adoption(app.main or "app", len(tasks), len(sources.files), items, sources.unread)


def _known(app: Any, tasks: Iterable[Any]) -> Known:
    tasks = list(tasks)
    return Known(
        frozenset(place for each in tasks if (place := place_of(each)) is not None),
        frozenset(
            function.__name__
            for each in tasks
            if hasattr(each, "durable_versions") and (function := plain_function(each)) is not None
        ),
        longest_wait(app.conf),
    )


def _in_files(sources: Sources, known: Known) -> Iterable[Item]:
    for source in sources.files:
        yield from Reader(source, known).read()
