"""Emulated number formats: what a tensor holds after it was stored as float32 or bfloat16.

NumPy has no bfloat16, so one is emulated: a float32 whose last 16 bits are rounded away. That is all there is
to the format (1 sign, 8 exponent and 7 mantissa bits: Wang and Kanwar, "BFloat16: The secret to high
performance on Cloud TPUs", Google Cloud blog, 2019-08-23); tensor cores multiply such values and add in float32.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

DType = Literal["float64", "float32", "bfloat16"]
Rounder = Callable[[NDArray[Any]], NDArray[Any]]

EPSILON: Final[dict[DType, float]] = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8}
"""Unit roundoff: the largest relative error of one rounding to nearest, of a normal number."""


def _to_float64(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values, dtype=np.float64)


def _to_float32(values: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # beyond the range is infinity, as in hardware
        return np.asarray(values, dtype=np.float32)


def _to_bfloat16(values: NDArray[Any]) -> NDArray[Any]:
    single = _to_float32(values)
    bits = single.view(np.uint32)
    # Add just under half of the last place kept, plus that place's own bit: ties go to the even neighbour.
    # A carry out of the mantissa raises the exponent, up to infinity, which is right.
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(single), single, rounded.view(np.float32))


_ROUNDERS: Final[dict[DType, Rounder]] = {
    "float64": _to_float64,
    "float32": _to_float32,
    "bfloat16": _to_bfloat16,
}


def rounder(dtype: DType) -> Rounder:
    """The function that rounds an array of any shape to `dtype`, to nearest, ties to even.

    float64 comes back in float64 arrays; float32 and bfloat16 in float32 arrays, so that NumPy's own
    products of rounded values accumulate in float32, as tensor cores do. A float64 given to the bfloat16
    rounder is rounded to float32 first: it passes through an accumulator on the way.
    """
    return _ROUNDERS[dtype]
