"""Sizes that kernels are given: checked once, at the door."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.errors import KernelError

Array = NDArray[np.float64]


def sizes(op: str, given: Mapping[str, ArrayLike]) -> tuple[Array, ...]:
    """`given` as float arrays of one broadcast shape. Raises KernelError for NaN, infinite or negative sizes."""
    arrays = tuple(np.asarray(value, dtype=np.float64) for value in given.values())
    for name, array in zip(given, arrays, strict=True):
        wrong = ~(np.isfinite(array) & (array >= 0))
        if wrong.any():
            bad = float(array[wrong].flat[0]) if array.ndim else float(array)
            raise KernelError(
                where=f"{op}.{name}",
                given=f"{bad:g}",
                rule="a size is finite and not negative",
                way_out="give 0 for nothing to do",
            )
    return tuple(np.broadcast_arrays(*arrays))
