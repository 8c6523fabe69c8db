"""Emulated formats against known values and the definition of rounding to nearest."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.numeric.rounding import EPSILON, rounder

LARGEST = 2.0**127 * (2 - 2.0**-7)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (1.0, 1.0),
        (-0.0, -0.0),
        (math.pi, 3.140625),
        (0.1, 0.10009765625),
        (1 + 2**-8, 1.0),  # a tie goes to the even neighbour below
        (1 + 3 * 2**-8, 1 + 2**-6),  # and above
        (-1 - 3 * 2**-8, -1 - 2**-6),
        (1 + 2**-8 + 2**-20, 1 + 2**-7),  # just over a tie
        (257.0, 256.0),
        (65535.0, 65536.0),  # the carry goes into the exponent
        (LARGEST, LARGEST),
        (3.4e38, math.inf),
        (1e300, math.inf),
        (-math.inf, -math.inf),
        (2.0**-133, 2.0**-133),  # the smallest subnormal
        (2.0**-134, 0.0),
        (2.0**-134 * 1.5, 2.0**-133),
    ],
)
def test_bfloat16_of_known_values(value: float, stored: float) -> None:
    found = rounder("bfloat16")(np.array([value]))
    assert found.dtype == np.float32
    assert found[0] == stored
    assert math.copysign(1, found[0]) == math.copysign(1, stored)


def test_nan_stays_nan() -> None:
    for bits in (0x7FC00000, 0x7F800001, 0xFFFFFFFF):  # quiet, signalling, negative
        value = np.array([bits], dtype=np.uint32).view(np.float32)
        assert np.isnan(rounder("bfloat16")(value)[0])


@given(finite)
def test_bfloat16_is_the_nearest_of_all(value: float) -> None:
    found = rounder("bfloat16")(np.array([value], dtype=np.float32))
    bits = int(found.view(np.uint32)[0])
    assert bits & 0xFFFF == 0
    with np.errstate(over="ignore"):
        beside = np.array([max(bits - 0x10000, 0), min(bits + 0x10000, 0xFFFF0000)], dtype=np.uint32).view(np.float32)
    for other in beside[np.isfinite(beside)]:
        assert np.isinf(found[0]) or abs(float(found[0]) - value) <= abs(float(other) - value)


@given(st.lists(finite, min_size=2, max_size=20), st.sampled_from(["float64", "float32", "bfloat16"]))
def test_rounding_twice_is_rounding_once_keeps_order_and_sign(values: list[float], dtype: str) -> None:
    to = rounder(dtype)  # type: ignore[arg-type]
    ordered = to(np.sort(np.array(values)))
    np.testing.assert_array_equal(to(ordered), ordered)
    assert np.all(ordered[1:] >= ordered[:-1])
    np.testing.assert_array_equal(to(-np.array(values)), -to(np.array(values)))


@given(st.floats(1e-30, 1e30), st.sampled_from(["float64", "float32", "bfloat16"]))
def test_the_error_of_one_rounding_is_at_most_the_unit_roundoff(value: float, dtype: str) -> None:
    found = float(rounder(dtype)(np.array(value)))  # type: ignore[arg-type]
    # A float64 reaches bfloat16 through float32: two roundings.
    twice = EPSILON["float32"] if dtype == "bfloat16" else 0.0
    assert abs(found - value) <= (EPSILON[dtype] + twice) * value * (1 + 1e-9)  # type: ignore[index]


def test_shapes_and_carriers() -> None:
    for dtype, carrier in (("float64", np.float64), ("float32", np.float32), ("bfloat16", np.float32)):
        for shape in ((), (3,), (2, 0), (2, 3, 4)):
            found = rounder(dtype)(np.full(shape, 1.1))  # type: ignore[arg-type]
            assert found.dtype == carrier
            assert found.shape == shape
    strided = np.arange(12.0).reshape(3, 4).T + 0.003
    np.testing.assert_array_equal(rounder("bfloat16")(strided), rounder("bfloat16")(strided.copy()))
