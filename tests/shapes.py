"""A type checker for jaxtyping's import hook that looks at the shapes and number types of arrays only.

Knows nothing of the functions that it checks.
"""

import inspect
from collections.abc import Callable
from typing import Any, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

CHECKER = beartype(conf=BeartypeConf(is_random=False))
"""Of a list it looks at the first entry, and not at one drawn from Python's global random state."""


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let beartype check those annotations that name an array's shape; the others are dropped first."""
    arrays = {name: hint for name, hint in function.__annotations__.items() if names_array(hint)}
    if not arrays:
        return function
    function.__annotations__ = arrays
    return CHECKER(function)


def names_array(hint: Any) -> bool:
    """Say whether an annotation is, or holds, something like Float[Tensor, "batch channels"]."""
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(names_array(part) for part in get_args(hint))
