"""Whether everything that one JSON Schema describes is accepted by another.

*Given* is the schema of values that are written, *taken* the one of those that are read. The answer
is a list of reasons why not; where it cannot be decided, that is a reason too. So an empty list is
a proof, and a reason may be wrong: of several forms in *taken*, one alone has to take all of a form
in *given*.

A written object has only the fields that its schema declares, unless ``additionalProperties``
allows others; who reads it may ignore others. A format is kept by who writes it.

Recursive definitions are compared by assuming, within a pair of them, that this pair fits: each
step goes one level down in a value, and values are finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .containment_forms import Form, Resolver, Undecided, forms_of, same
from .containment_limits import limit_reasons, literal_reasons

__all__ = ["Reason", "reasons_against"]

_MOST_STEPS = 20_000


class Reason(NamedTuple):
    """Why something that is given may not be taken."""

    #: Where, such as ``.lines[].sku``.
    path: str
    #: "type", "required", "gone", "extra", "literal", "limit" or "undecided".
    kind: str
    #: What is given, or the name of a field.
    given: str
    #: What is taken.
    taken: str


def reasons_against(given: Mapping[str, Any], taken: Mapping[str, Any]) -> list[Reason]:
    """Return why not all that ``given`` describes is accepted by ``taken``; empty if it is.

    Args:
        given: a JSON Schema with its ``$defs``, of what is written.
        taken: one of what is read.
    """
    return _Comparison(given, taken).reasons()


class _Comparison:
    def __init__(self, given: Mapping[str, Any], taken: Mapping[str, Any]) -> None:
        self._roots = given, taken
        self._given, self._taken = Resolver(given), Resolver(taken)
        self._open: set[tuple[str, str]] = set()
        self._steps = 0

    def reasons(self) -> list[Reason]:
        given, taken = self._roots
        if same(given, taken):
            return []
        try:
            return list(dict.fromkeys(self._pair(given, taken, "")))
        except RecursionError:
            return [_undecided("", "it is nested too deeply")]

    def _pair(self, given: Any, taken: Any, path: str) -> list[Reason]:
        """Compare two schemas, unless just that is being done further up."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            return [_undecided(path, "there is too much to compare")]
        key = self._given.key(given), self._taken.key(taken)
        if key in self._open:
            return []
        self._open.add(key)
        try:
            return self._forms(given, taken, path)
        finally:
            self._open.discard(key)

    def _forms(self, given: Any, taken: Any, path: str) -> list[Reason]:
        try:
            some, others = forms_of(given, self._given), forms_of(taken, self._taken)
        except Undecided as why:
            return [_undecided(path, str(why))]
        found: list[Reason] = []
        if any(form.is_anything for form in others):
            return found
        if any(form.is_anything for form in some):
            return [Reason(path, "type", "anything", _text(others))]
        for form in some:
            found += self._one_of(form, others, path)
        return found

    def _one_of(self, form: Form, others: list[Form], path: str) -> list[Reason]:
        """Compare one form with those of which one has to take it."""
        if form.literals is not None:
            each = [self._literal(Form(None, {}, (one,)), others, path) for one in form.literals]
            if len(each) > 1 and all(each) and all(r.kind == "literal" for rs in each for r in rs):
                return [Reason(path, "type", form.text, _text(others))]
            return [reason for reasons in each for reason in reasons]
        near = [each for each in others if each.takes_type(form.type)]
        if not near:
            return [Reason(path, "type", form.text, _text(others))]
        tried = [self._form(form, each, path) for each in near]
        if [] in tried:
            return []
        if len(tried) == 1:
            return tried[0]
        return [Reason(path, "type", form.text, _text(others))]

    def _literal(self, form: Form, others: list[Form], path: str) -> list[Reason]:
        (value,) = form.literals or ()
        tried = [literal_reasons(value, each) for each in others]
        if None in tried:
            return []
        if "undecided" in tried:
            return [_undecided(path, f"whether {form.text} is {_text(others)}")]
        return [Reason(path, "literal", form.text, _text(others))]

    def _form(self, form: Form, other: Form, path: str) -> list[Reason]:
        """Compare two forms of one type."""
        if other.literals is not None:
            return [Reason(path, "type", form.text, other.text)]
        found = [
            Reason(path, "undecided" if is_undecided else "limit", one, another)
            for one, another, is_undecided in limit_reasons(form, other)
        ]
        if form.type == "object":
            found += self._object(form.keywords, other.keywords, path)
        elif form.type == "array":
            found += self._array(form.keywords, other.keywords, path)
        return found

    # -- objects -----------------------------------------------------------------------------------

    def _object(self, form: Any, other: Any, path: str) -> list[Reason]:
        declared, known = form.get("properties", {}), other.get("properties", {})
        required = form.get("required", [])
        found = []
        for name in other.get("required", []):
            if name not in required:
                kind = "required" if name in declared else "gone"
                found.append(Reason(f"{path}.{name}", kind, name, ""))
        more = other.get("additionalProperties", True)
        for name, schema in declared.items():
            if schema is False:
                continue
            if name in known:
                found += self._pair(schema, known[name], f"{path}.{name}")
            elif more is False:
                found.append(Reason(f"{path}.{name}", "extra", name, ""))
            elif "additionalProperties" in other:
                found += self._pair(schema, more, f"{path}.{name}")
        for name in declared if "propertyNames" in other else ():
            literal = {"const": name}
            found += self._pair(literal, other["propertyNames"], f"{path}.{name} (its name)")
        return found + self._other_fields(form, other, path)

    def _other_fields(self, form: Any, other: Any, path: str) -> list[Reason]:
        """Compare what fields may have that are not declared."""
        is_open = "additionalProperties" in form or "properties" not in form
        extra = form.get("additionalProperties", True) if is_open else False
        if extra is False:
            return []
        found = []
        for name, schema in other.get("properties", {}).items():
            if name not in form.get("properties", {}):
                found += self._pair(extra, schema, f"{path}.{name}")
        more = other.get("additionalProperties", True)
        if more is False:
            return [*found, Reason(path, "type", "object with any fields", "object without others")]
        if "additionalProperties" in other:
            found += self._pair(extra, more, f"{path}.*")
        if "propertyNames" in other:
            names = form.get("propertyNames", {"type": "string"})
            found += self._pair(names, other["propertyNames"], f"{path} (names of fields)")
        return found

    # -- arrays ------------------------------------------------------------------------------------

    def _array(self, form: Any, other: Any, path: str) -> list[Reason]:
        some, others = form.get("prefixItems", []), other.get("prefixItems", [])
        most = form.get("maxItems")
        found: list[Reason] = []
        for number in range(max(len(some), len(others))):
            if most is not None and number >= most:
                return found
            given = some[number] if number < len(some) else form.get("items", True)
            taken = others[number] if number < len(others) else other.get("items", True)
            if given is not False:
                found += self._pair(given, taken, f"{path}[{number}]")
        if most is not None and most <= max(len(some), len(others)):
            return found
        if form.get("items", True) is not False:
            found += self._pair(form.get("items", True), other.get("items", True), f"{path}[]")
        return found


def _undecided(path: str, why: str) -> Reason:
    return Reason(path, "undecided", why, "")


def _text(forms: list[Form]) -> str:
    texts = list(dict.fromkeys(form.text for form in forms))
    return " or ".join(texts) if texts else "nothing"
