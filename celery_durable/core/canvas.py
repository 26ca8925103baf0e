"""The shapes of Celery signatures: what is in a group, a chain, a chord or chunks, as Celery's own
worker sees it. Values only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = [
    "MAPS",
    "NOT_SENT",
    "chunks_of",
    "first_of",
    "members_in",
    "members_of",
    "parts_of",
    "steps_of",
    "with_first",
    "with_options",
]

_DELAYS = frozenset({"countdown", "eta"})
_CALLBACKS = frozenset({"link", "link_error"})
_IDENTITY = frozenset({"task_id", "root_id", "parent_id", "chord", "group_id", "group_index"})
#: Options that do not travel with a call: the engine's own, or read before it is sent.
NOT_SENT = _IDENTITY | _DELAYS | {"expires"}
#: Celery's tasks that run another one for each of their items.
MAPS = ("celery.map", "celery.starmap")


def with_first(
    signature: Mapping[str, Any], given: Sequence[Any], named: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Return a signature that takes ``given`` before its own arguments, and ``named`` over its own,
    whatever its shape.
    """
    if not (given or named) or signature.get("immutable"):
        return signature
    shape, parts = signature.get("subtask_type"), signature.get("kwargs") or {}
    if shape == "group":
        return {
            **signature,
            "kwargs": {
                **parts,
                "tasks": [with_first(member, given, named) for member in parts["tasks"]],
            },
        }
    args = (*given, *(signature.get("args") or ()))
    if shape == "chain":
        steps = steps_of({**signature, "args": ()})
        return {
            **signature,
            "args": (),
            "options": {},
            "kwargs": {
                **parts,
                "tasks": [*(with_first(step, args, named) for step in steps[:1]), *steps[1:]],
            },
        }
    inner = parts.get("kwargs") or {}
    kwargs = (
        {**parts, "kwargs": {**inner, **(named or {})}}
        if shape == "chord"
        else {**parts, **(named or {})}
    )
    return {**signature, "args": args, "kwargs": kwargs}


def with_options(signature: Mapping[str, Any], options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a signature with the options that were set on the whole it belongs to.

    Its own callbacks stay.
    """
    own = dict(signature.get("options") or {})
    for name, value in options.items():
        if name in _CALLBACKS:
            own[name] = [*_listed(own.get(name)), *_listed(value)]
        elif name not in _IDENTITY:
            own[name] = value
    return {**signature, "options": own}


def members_of(group: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give the members of a group, with its options.

    Those of a group within it take its place, as in Celery.
    """
    chosen = group.get("options") or {}
    for member in group["kwargs"]["tasks"]:
        if _is_empty(member, "chain"):
            continue
        given = with_options(member, chosen)
        if given.get("subtask_type") == "group":
            yield from members_of(given)
        else:
            yield given


def steps_of(chain: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the steps of a chain as Celery's worker sees them, with the chain's arguments and
    options.

    Chains within it are spliced in, a group of one is its member, and an empty group is passed over
    unless there is nothing else. Callbacks go where the chain's own end or failure is; any other
    option is for the first step.
    """
    steps: list[Mapping[str, Any]] = []
    for task in chain["kwargs"]["tasks"]:
        step = _sole_member(task)
        steps += steps_of(step) if step.get("subtask_type") == "chain" else [step]
    steps = [step for step in steps if not _is_empty(step, "group")] or steps[:1]
    options = chain.get("options") or {}
    if steps:
        first = {name: value for name, value in options.items() if name not in _CALLBACKS}
        steps[0] = with_options(with_first(steps[0], chain.get("args") or ()), first)
        steps[-1] = with_options(steps[-1], _only(options, "link"))
        steps = [with_options(step, _only(options, "link_error")) for step in steps]
    return steps


def parts_of(chord: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """Return the members of a chord's header and its body, with the chord's arguments and options.

    A delay is for the header and ``link`` for the body. ``link_error`` of the body is for the
    header too: Celery calls it when a member fails.
    """
    parts, options = chord["kwargs"], chord.get("options") or {}
    header = (
        parts["header"]
        if isinstance(parts["header"], Mapping)
        else {"kwargs": {"tasks": parts["header"]}}
    )
    body = with_options(
        parts["body"], {name: value for name, value in options.items() if name not in _DELAYS}
    )
    chosen = {name: value for name, value in options.items() if name not in _CALLBACKS}
    whole = with_options(header, {**chosen, **_only(body["options"], "link_error")})
    given, named = chord.get("args") or (), parts.get("kwargs")
    return [with_first(member, given, named) for member in members_of(whole)], body


def first_of(signature: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the task of a canvas that runs first, or one of them; None if there is none."""
    shape, parts = signature.get("subtask_type") or signature["task"], signature.get("kwargs") or {}
    inner: Sequence[Mapping[str, Any]]
    if shape == "chain":
        inner = steps_of(signature)
    elif shape == "group":
        inner = list(members_of(signature))
    elif shape == "chord":
        header, body = parts_of(signature)
        inner = header or [body]
    elif shape in (*MAPS, "celery.chunks"):
        inner = [parts["task"]]
    else:
        return signature
    return first_of(inner[0]) if inner else None


def members_in(signature: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give all that a canvas calls, at any depth, as ``ctx.call`` comes to see it; of a single task
    that one.
    """
    shape = signature.get("subtask_type") or signature["task"]
    if shape == "chain":
        inner = steps_of(signature)
    elif shape == "group":
        inner = list(members_of(signature))
    elif shape == "chord":
        header, body = parts_of(signature)
        inner = [*header, body]
    elif shape == "celery.chunks":
        inner = chunks_of(signature)
    else:
        yield signature
        return
    for each in inner:
        if each.get("subtask_type"):
            yield {"task": each["subtask_type"], "options": each.get("options")}
        yield from members_in(each)


def chunks_of(chunks: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return one ``starmap`` for each chunk, as Celery makes them."""
    parts = chunks["kwargs"]
    items, size = list(parts["it"]), int(parts["n"])
    slices = [items[start : start + size] for start in range(0, len(items), size)]
    maps = [
        {"task": "celery.starmap", "kwargs": {"task": parts["task"], "it": part}} for part in slices
    ]
    return [with_options(each, chunks.get("options") or {}) for each in maps]


def _sole_member(signature: Mapping[str, Any]) -> Mapping[str, Any]:
    if signature.get("subtask_type") != "group":
        return signature
    members = list(signature["kwargs"]["tasks"])
    return (
        with_options(members[0], signature.get("options") or {}) if len(members) == 1 else signature
    )


def _is_empty(signature: Mapping[str, Any], shape: str) -> bool:
    return signature.get("subtask_type") == shape and not signature["kwargs"]["tasks"]


def _only(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: options[name]} if options.get(name) else {}


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
