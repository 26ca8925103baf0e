"""What single expressions say: each function here looks at one kind of node, and tells what it
finds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .scope import Scope, is_true, keyword_of, seconds_in

__all__ = ["Found", "about_call", "about_raise", "about_status", "setting_in"]

#: A kind, and what is there.
Found = tuple[str, str]

_SENDING = frozenset({"apply_async", "send_task", "apply", "signature", "subtask", "set", "retry"})
_SENDERS = (".delay", ".apply_async", ".send_task", ".delay_on_commit")
_STATES = frozenset({"status", "state", "ready", "successful", "failed", "result", "info"})
_WAITS = frozenset({"get", "join", "wait", "join_native", "collect"})
_LONGEST_TEXT = 70


def short(node: ast.AST) -> str:
    """Return an expression as it is written, on one line and not too long."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def about_call(node: ast.Call, scope: Scope, longest: float | None) -> Iterator[Found]:
    """Tell of a call.

    Args:
        node: the call.
        scope: what names mean there.
        longest: how many seconds the broker leaves a message unacknowledged; None for ever.
    """
    name = node.func.attr if isinstance(node.func, ast.Attribute) else scope.dotted(node.func)
    if isinstance(node.func, ast.Attribute):
        yield from _about_sending(node, node.func, scope, longest)
        yield from _about_task(node.func, scope)
        if name in _WAITS and scope.function.is_task and scope.is_result(node.func.value):
            yield "waits-in-task", short(node)
    yield from _about_commit(node, scope)
    yield from _about_patch(node, name.rpartition(".")[2])


def _about_sending(
    node: ast.Call, method: ast.Attribute, scope: Scope, longest: float | None
) -> Iterator[Found]:
    if method.attr not in _SENDING or (method.attr == "set" and not _sets(method, scope)):
        return
    own_id = keyword_of(node, "task_id")
    if own_id is not None and is_true(own_id) and not _is_of_an_orchestration(method, scope):
        yield "task-id", f"{method.attr}(task_id={short(own_id)})"
    if _is_text(keyword_of(node, "serializer"), "pickle"):
        yield "pickle", f"{method.attr}(serializer='pickle')"
    if scope.function.is_orchestrator:
        return  # they are durable timers there
    for option in ("countdown", "eta"):
        if (value := keyword_of(node, option)) is not None and is_true(value):
            kind, text = _countdown(option, value, longest)
            if kind != "countdown" or method.attr != "retry":
                yield kind, text


def _is_of_an_orchestration(method: ast.Attribute, scope: Scope) -> bool:
    """Tell whether the id is that of an orchestrator, whose instance id it becomes."""
    parts = list(ast.walk(method.value))
    named = {each.id for each in parts if isinstance(each, ast.Name)}
    is_run = any(isinstance(each, ast.Attribute) and each.attr == "canvas" for each in parts)
    return method.attr == "retry" or is_run or bool(named & scope.orchestrators)


def _sets(method: ast.Attribute, scope: Scope) -> bool:
    return scope.is_signature(method.value)


def _countdown(option: str, value: ast.expr, longest: float | None) -> Found:
    seconds = seconds_in(value)
    if seconds is None or longest is None or seconds <= longest:
        return "countdown", f"{option}={short(value)}"
    return (
        "long-countdown",
        f"{option}={short(value)}: {seconds:,.0f} s, and the broker waits {longest:,.0f} s",
    )


def _is_text(node: ast.AST | None, text: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == text


def _about_task(method: ast.Attribute, scope: Scope) -> Iterator[Found]:
    me = scope.function.me
    is_me = me is not None and isinstance(method.value, ast.Name) and method.value.id == me
    if is_me and method.attr in ("replace", "add_to_chord"):
        yield "replace", f"self.{method.attr}()"


def _about_commit(node: ast.Call, scope: Scope) -> Iterator[Found]:
    if isinstance(node.func, ast.Attribute) and node.func.attr in (
        "delay_on_commit",
        "apply_async_on_commit",
    ):
        yield "on-commit", short(node)
    is_hook = scope.dotted(node.func).rpartition(".")[2] == "on_commit"
    if is_hook and any(_sends(each) for argument in node.args for each in ast.walk(argument)):
        yield "on-commit", short(node)


def _sends(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("delay", "apply_async", "send_task")


def _about_patch(node: ast.Call, name: str) -> Iterator[Found]:
    if name not in ("patch", "object", "setattr", "spy", "stub"):
        return
    texts = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
    if any(isinstance(text, str) and f".{text}".endswith(_SENDERS) for text in texts):
        yield "patched", short(node)


def about_status(node: ast.Attribute, scope: Scope) -> Iterator[Found]:
    """Tell of what is read of an ``AsyncResult``."""
    if node.attr in _STATES and scope.is_result(node.value):
        yield "status-check" if scope.function.is_task else "status-poll", short(node)


def about_raise(node: ast.Raise, scope: Scope) -> Iterator[Found]:
    """Tell of Celery's own exceptions."""
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    if raised is not None and scope.dotted(raised) in (
        "celery.exceptions.Ignore",
        "celery.exceptions.Reject",
    ):
        yield "ignore-reject", short(node)


def setting_in(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Return the settings that a statement or a call gives values: names as they are written."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
            elif isinstance(target, ast.Attribute):
                yield target.attr, node.value
            elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                yield str(target.slice.value), node.value
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        if node.value is not None:
            yield node.target.id, node.value
    elif isinstance(node, ast.Call):
        yield from ((each.arg, each.value) for each in node.keywords if each.arg)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value
