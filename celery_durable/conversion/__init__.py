"""Values of the application's own types, as plain JSON and back (internal).

Encoded anywhere: models of pydantic, dataclasses, named tuples, enums, ``timedelta``, ``Path``,
sets and tuples, inside each other too, and what a converter knows. What is stored has no class
names: a model as pydantic's ``mode="json"`` gives it, a dataclass as a dict, a named tuple as a
list, an enum as its value, a ``timedelta`` as seconds, a ``Path`` as text, a set as a list in
order.

Decoded where a type is named: by an annotation with such a type in it, through pydantic. Other
annotations are not looked at.
"""

from __future__ import annotations

from .adapters import Adapter, Decoder, fitting, understood
from .annotations import hints_of, is_looked_at
from .converters import Converter, Converters
from .encoder import Encoder
from .schemas import is_closed_model
from .signatures import AttributeTypes, SignatureTypes, returned_by

__all__ = [
    "Adapter",
    "AttributeTypes",
    "Converter",
    "Converters",
    "Decoder",
    "Encoder",
    "SignatureTypes",
    "fitting",
    "hints_of",
    "is_closed_model",
    "is_looked_at",
    "returned_by",
    "understood",
]
