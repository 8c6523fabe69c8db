"""Quantities: read as people write them, printed back, and refused where the unit is another kind's."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import UnitError
from simulator.units import (
    format_bandwidth,
    format_bytes,
    format_time,
    parse_bandwidth,
    parse_bytes,
    parse_flops,
    parse_time,
)

sizes = st.floats(1e-3, 1e15, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("80 GiB", 80 * 2**30), ("80 GB", 80e9), ("16G", 16 * 2**30), ("1.5 MB", 1.5e6), ("7", 7), ("9 B", 9),
    ],
)  # fmt: skip
def test_sizes(text: str, size_bytes: float) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "rate_bytes_per_s"),
    [
        ("400 Gbit/s", 50e9), ("400 Gbps", 50e9), ("900 GB/s", 900e9), ("3.35 TB/s", 3.35e12), ("1 GiB/s", 2**30),
    ],
)  # fmt: skip
def test_bandwidths_tell_bit_from_byte(text: str, rate_bytes_per_s: float) -> None:
    assert parse_bandwidth(text) == rate_bytes_per_s


@pytest.mark.parametrize(
    ("text", "time_s"), [("5 us", 5e-6), ("5 µs", 5e-6), ("2 h", 7200), ("1.5 ms", 1.5e-3), ("3 min", 180)]
)
def test_times(text: str, time_s: float) -> None:
    assert parse_time(text) == pytest.approx(time_s, rel=1e-15)


def test_compute_rates() -> None:
    assert parse_flops("989 TFLOPS") == parse_flops("989 TFLOP/s") == 989e12


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_bandwidth, "900 GB"), (parse_bandwidth, "900"), (parse_bandwidth, "GB/s"), (parse_bytes, "900 GB/s"),
        (parse_bytes, "8 Gbit"), (parse_bytes, "nan GB"), (parse_bytes, "eight GB"), (parse_bytes, "1e999 B"),
        (parse_bytes, "1 G B"), (parse_time, "5"), (parse_time, "5 GB"), (parse_flops, "5 TB/s"), (parse_time, ""),
    ],
)  # fmt: skip
def test_the_wrong_kind_is_refused_with_an_example(parse: object, text: str) -> None:
    with pytest.raises(UnitError, match=r"write e\.g\.") as caught:
        parse(text)  # type: ignore[operator]
    assert repr(text) in str(caught.value)


@given(value=sizes)
def test_printed_quantities_read_back(value: float) -> None:
    """Four digits are printed."""
    assert math.isclose(parse_bytes(format_bytes(value)), value, rel_tol=1e-3)
    assert math.isclose(parse_bandwidth(format_bandwidth(value)), value, rel_tol=1e-3)
    assert math.isclose(parse_time(format_time(value * 1e-9)), value * 1e-9, rel_tol=1e-3)
