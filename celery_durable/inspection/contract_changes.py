"""Two releases of contracts, compared: what breaks a client or a live instance, and what does not.

What goes in (arguments, events, requests) breaks where the old contract lets something be sent that
the new one does not take; what comes out (results) where the new one gives something that readers
of the old one do not expect. What cannot be decided counts as a break.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .containment import Reason, reasons_against
from .contract_fields import field_changes
from .contracts import FORMAT

__all__ = ["Change", "changes_between"]

Contract = Mapping[str, Any]
Changes = Iterator["Change"]


class Change(NamedTuple):
    """One difference of two contracts."""

    #: Whose, and where in it: "shop.sale input.order.lines[].sku".
    path: str
    text: str
    #: Whether a client or a live instance may break; else it is a note.
    is_break: bool

    def __str__(self) -> str:
        return f"{'BREAKS' if self.is_break else 'note'}: {self.path}: {self.text}"


class _Words(NamedTuple):
    """What reasons mean in one direction, by their kinds."""

    #: Where they break something.
    breaks: Mapping[str, str]
    #: Where it is the other way round, and nothing breaks.
    notes: Mapping[str, str]


_IN = _Words(
    {
        "type": "takes {taken} now, and no longer {given}",
        "required": "is required now",
        "gone": "is new and required",
        "extra": "is not taken any more, and fields that are not known are refused",
        "literal": "{given} is not taken any more: it has to be {taken}",
        "limit": "had {given}, and has to have {taken} now",
        "undecided": "could not be compared: {given}",
    },
    {
        "type": "takes {given} now; it was {taken}",
        "required": "is optional now",
        "gone": "is not needed any more",
        "extra": "is new and optional",
        "literal": "takes {given} too",
        "limit": "has {given} now; it was {taken}",
    },
)
_OUT = _Words(
    {
        "type": "is {given} now, where readers expect {taken}",
        "required": "may be missing now",
        "gone": "is gone, and readers expect it",
        "extra": "is new, and readers refuse fields that they do not know",
        "literal": "may be {given} now, where readers expect {taken}",
        "limit": "has {given} now, where readers expect {taken}",
        "undecided": "could not be compared: {given}",
    },
    {
        "type": "is {taken} now; it was {given}",
        "required": "is always there now",
        "gone": "is new",
        "extra": "is not given any more",
        "literal": "is never {given} now",
        "limit": "has {taken} now; it was {given}",
    },
)


def changes_between(
    old: Mapping[str, Any], new: Mapping[str, Any], name: str | None = None
) -> list[Change]:
    """Return how the contracts of a release differ from those of an older one, breaks first.

    Args:
        old: a document of ``durable.schema()``, or of one name.
        new: the same of the code of today.
        name: look at this orchestrator or task alone.

    Raises:
        ValueError: a document is none of contracts, or was written by a later release.
    """
    before, after = _contracts_in(old), _contracts_in(new)
    if "name" in old:  # of one alone
        name = name or str(old["name"])
    if name is not None:
        before, after = (
            {key: each for key, each in side.items() if key == name} for side in (before, after)
        )
        if not before:
            raise ValueError(f"there is no contract of {name!r} to compare with")
    found: list[Change] = []
    for key in sorted({*before, *after}):
        found += _contract(key, before.get(key), after.get(key))
    found = list(dict.fromkeys(found))
    return sorted(found, key=lambda change: not change.is_break)


def _contracts_in(document: Mapping[str, Any]) -> dict[str, Contract]:
    if not isinstance(document, Mapping) or not isinstance(document.get("format"), int):
        raise ValueError("this is no document of contracts; durable schema --output writes one")
    if document["format"] > FORMAT:
        raise ValueError("the contracts were written by a later release of celery-durable")
    if "name" in document:
        return {str(document["name"]): document}
    return {**document.get("tasks", {}), **document.get("orchestrators", {})}


def _contract(name: str, old: Contract | None, new: Contract | None) -> Changes:
    if old is None:
        yield Change(name, "is new", False)
    elif new is None:
        yield Change(name, f"this {old['kind']} is gone", True)
    elif old["kind"] != new["kind"]:
        yield Change(name, f"was of the kind {old['kind']}, and is {new['kind']} now", True)
    else:
        yield from _version(name, old, new)
        yield from _versions(name, old, new)


def _versions(name: str, old: Contract, new: Contract) -> Changes:
    """Compare the versions that live instances have kept."""
    before, after = _by_version(old), _by_version(new)
    for version, contract in before.items():
        shown = f"{name} (version {version or 'none'})"
        if version not in after:
            yield Change(
                shown, "is gone: instances that began with it could not move any more", True
            )
        elif version != (old.get("version") or "") or version != (new.get("version") or ""):
            yield from _version(shown, contract, after[version])


def _by_version(contract: Contract) -> dict[str, Contract]:
    if contract["kind"] != "orchestrator":
        return {}
    return {**contract.get("versions", {}), contract.get("version") or "": contract}


def _version(name: str, old: Contract, new: Contract) -> Changes:
    yield from _part(f"{name} input", old["input"], new["input"], _IN)
    yield from _positions(name, old, new)
    yield from _part(f"{name} result", old["result"], new["result"], _OUT)
    for kind, key in (("event", "events"), ("request", "requests")):
        yield from _waits(name, kind, old.get(key, {}), new.get(key, {}))
    queries, others = old.get("queries", []), new.get("queries", [])
    for each in queries:
        if each not in others:
            yield Change(f"{name} query {each!r}", "is gone", True)
    for each in others:
        if each not in queries:
            yield Change(f"{name} query {each!r}", "is new", False)
    yield from _unknown(name, old.get("unknown", []), new.get("unknown", []))


def _positions(name: str, old: Contract, new: Contract) -> Changes:
    before, after = old["by_position"], new["by_position"]
    more = new.get("more_by_position")
    for number, each in enumerate(before):
        now = after[number] if number < len(after) else None
        if now == each or (now is None and more is not None):
            continue
        text = "cannot be given by position any more" if now is None else f"is {now!r} now"
        yield Change(f"{name} argument {number + 1}", f"was {each!r}, and {text}", True)
    if "more_by_position" not in old:
        return
    for each in after[len(before) :]:
        schema = _with_definitions(new["input"], each)
        yield from _part(f"{name} further arguments", old["more_by_position"], schema, _IN)
    if more is None:
        yield Change(f"{name} further arguments", "are not taken any more", True)
    else:
        yield from _part(f"{name} further arguments", old["more_by_position"], more, _IN)


def _with_definitions(root: Contract, name: str) -> Contract:
    found = root["properties"][name]
    return {**found, "$defs": root.get("$defs", {})}


def _waits(name: str, kind: str, old: Contract, new: Contract) -> Changes:
    for each, schema in old.items():
        path = f"{name} {kind} {each!r}"
        if each in new:
            yield from _part(path, schema, new[each], _IN)
        else:
            yield Change(path, "is not waited for any more", True)
    for each in new:
        if each not in old:
            yield Change(f"{name} {kind} {each!r}", "is waited for now", False)


def _unknown(name: str, old: list[Contract], new: list[Contract]) -> Changes:
    before, after = ({(each["what"], each["code"]) for each in side} for side in (old, new))
    for what, code in sorted(before - after):
        yield Change(
            name, f"could not be compared: {what} was not known in the old contract: {code}", True
        )
    for what, code in sorted(after - before):
        yield Change(name, f"{what} is not known: {code}", False)


def _part(path: str, old: Contract, new: Contract, words: _Words) -> Changes:
    given, taken = (old, new) if words is _IN else (new, old)
    reasons = reasons_against(given, taken)
    for reason in reasons:
        yield Change(path + reason.path, _message_of(words.breaks, reason), True)
    reported = {reason.path for reason in reasons}
    for reason in reasons_against(taken, given):
        if reason.path not in reported and reason.kind in words.notes:
            reported.add(reason.path)
            yield Change(path + reason.path, _message_of(words.notes, reason), False)
    for where, text in field_changes(old, new):
        if not any(where.startswith(each) for each in reported if each) and where not in reported:
            yield Change(path + where, text, False)


def _message_of(words: Mapping[str, str], reason: Reason) -> str:
    return words[reason.kind].format(given=reason.given, taken=reason.taken)
