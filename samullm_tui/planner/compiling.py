"""Compiled kernels of the planner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

__all__ = ["compiled"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Numba without reference counting: a kernel makes no array, it gets all that it writes to."""
    return cast("F", njit(cache=True, nogil=True, _nrt=False, error_model="numpy")(function))
