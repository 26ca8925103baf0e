"""What a request of the list chose: ids, or all that match the filters of the list."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import BadRequest
from django.http import QueryDict

from ....app.durable import Durable
from .addresses import quoted, unquoted
from .filters import FilterForm
from .verbs import MOST_AT_ONCE, Verb, matching_filters, matching_ids

__all__ = ["Chosen", "ids_of"]


class Chosen:
    """What a request chose: ids, or all that match the filters of the list."""

    def __init__(self, durable: Durable, verb: Verb, given: QueryDict) -> None:
        self._durable = durable
        self.given: list[str] = ids_of(given)
        self.query: Any = given.get("query", "")
        self.is_from_page: bool = "from_page" in given
        self.filters: dict[str, Any] | None = None
        if "all" in given:
            form = FilterForm(QueryDict(self.query))
            if not form.is_valid():
                raise BadRequest("the filters do not fit")
            self.filters = matching_filters(verb, form.filters)
        elif len(self.given) > MOST_AT_ONCE:
            raise BadRequest(f"at most {MOST_AT_ONCE} orchestrations at once")

    @property
    def is_empty(self) -> bool:
        """Whether nothing was chosen."""
        return self.filters is None and not self.given

    def count(self) -> int:
        """Return how many were chosen."""
        return len(self.given) if self.filters is None else self._durable.count(**self.filters)

    def parts(self) -> list[str]:
        """Return the ids that were chosen one by one, as addresses have them."""
        return [quoted(id_) for id_ in self.given]

    def ids(self, most: int = MOST_AT_ONCE) -> list[str]:
        """Return the ids of those that were chosen, the newest first of those that match."""
        return (
            self.given[:most]
            if self.filters is None
            else matching_ids(self._durable, self.filters, most)
        )


def ids_of(given: QueryDict) -> list[str]:
    """Return the ids that a form has, each once."""
    return list(dict.fromkeys(unquoted(each) for each in given.getlist("id") if each))
