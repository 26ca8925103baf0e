"""Models of pydantic to JSON, as their own ``mode="json"`` writes them.

Where that could not be read back, it is written otherwise: what a converter is for, and computed
fields of models that keep or refuse what they do not know. A secret, of which pydantic writes
asterisks, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .converters import Converters
from .schemas import Reshaper
from .versions_of_pydantic import options, unshared

__all__ = ["dumped"]


def dumped(model: Any, converters: Converters, plain: Callable[[Any], Any]) -> Any:
    """Return JSON for a model."""
    cls = type(model)
    if cls not in converters.writers:
        converters.writers[cls] = _writer(cls, converters, plain)
    writer = converters.writers[cls]
    if writer is None:
        return model.model_dump(mode="json")
    return writer.to_python(model, mode="json", fallback=plain, **options().writing)


def _writer(cls: Any, converters: Converters, plain: Callable[[Any], Any]) -> Any:
    from pydantic import BaseModel, TypeAdapter
    from pydantic_core import SchemaSerializer

    if not issubclass(cls, BaseModel) or cls.model_dump is not BaseModel.model_dump:
        return None  # it has its own way
    schema = TypeAdapter(cls).core_schema
    changed = Reshaper(converters, plain=plain).changed(schema)
    if changed is schema and not converters:
        return None
    return unshared(SchemaSerializer, changed)
