"""Tasks that are declared with ``pydantic=True``: what their annotations say.

Celery itself makes models of the arguments, and JSON of the model that the body returns; it looks
at no other result.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from .._errors import PayloadError
from ..core.ports import Codec, SignatureTypes

__all__ = ["expect_arguments", "with_fitting_result"]


def expect_arguments(
    codec: Codec, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Expect that arguments fit the annotations of a task with models.

    Raises:
        PayloadError: one does not fit, or cannot be encoded.
    """
    if types := _types_of(codec, task):
        args, kwargs = codec.decode(codec.encode([list(args), dict(kwargs)]))
        try:
            types.decoded(args, kwargs)
        except PayloadError as error:
            raise PayloadError(f"{task.name} cannot start: {error}") from None


def with_fitting_result(codec: Codec, task: Any, body: Callable[..., Any]) -> Callable[..., Any]:
    """Return a body that raises ``PayloadError`` where its result does not fit the annotation of
    a task with models.
    """
    types = _types_of(codec, task)
    if types is None or not types.decodes_result:
        return body

    def run(*args: Any, **kwargs: Any) -> Any:
        result = body(*args, **kwargs)
        try:
            types.result(codec.decode(codec.encode(result)))
        except PayloadError as error:
            raise PayloadError(f"activity {task.name}: {error}") from None
        return result

    return run


def _types_of(codec: Codec, task: Any) -> SignatureTypes | None:
    wrapper = _wrapper_of(task)
    if wrapper is None:
        return None
    options = _closure_of(wrapper)
    # what it dumps need not be the whole model, and what validates may need its context
    if (options.get("dump_kwargs") or {}).keys() - {"mode"} or options.get("context"):
        return None
    is_bound = not isinstance(inspect.getattr_static(type(task), "run", None), staticmethod)
    return codec.types_of(inspect.unwrap(wrapper), is_static=not is_bound)


def _closure_of(wrapper: Callable[..., Any]) -> dict[str, Any]:
    """Return what the options of a task with models have become, by Celery's own names."""
    options = dict(inspect.getclosurevars(wrapper).nonlocals)
    if inspect.isfunction(validate := options.get("validate_argument")):  # as of Celery 5.7
        options.update(inspect.getclosurevars(validate).nonlocals)
    return options


def _wrapper_of(task: Any) -> Callable[..., Any] | None:
    """Return what Celery has put around the body of a task with models; None without them."""
    found: Any = getattr(task, "_orig_run", None) or getattr(task, "run", None)
    found = getattr(found, "__func__", found)
    while found is not None:
        code = getattr(found, "__code__", None)
        if code is not None and code.co_qualname == "pydantic_wrapper.<locals>.wrapper":
            return cast("Callable[..., Any]", found)
        found = getattr(found, "__wrapped__", None)
    return None
