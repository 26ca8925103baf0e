"""Whether a function of Celery's is still its own: what another one stands for, or is wrapped
around, must not be passed by.
"""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

__all__ = ["is_celerys_own"]


def is_celerys_own(module: ModuleType, name: str, function: Any) -> bool:
    """Tell whether it is this very function.

    What wraps one has its module and its name, but other code.

    Args:
        module: where Celery defines it.
        name: its qualified name there.
        function: what is found in its place now.
    """
    code = function.__code__ if type(function) is FunctionType else None
    return code is not None and code.co_filename == module.__file__ and code.co_qualname == name
