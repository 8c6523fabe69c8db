"""Libraries that split k over multiprocessors, and those that do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost.kernel import choose
from simulator.cost.kernel.families import gemm_kernel
from simulator.cost.kernel.gemm import gemm_s
from simulator.cost.kernel.parameters import fitted
from simulator.cost.kernel.silicon import silicon
from simulator.hardware.catalogue import find_device

H100 = find_device("H100")
FIT = fitted("gemm", choose.gemm_key("hopper", "fp8_block", "sglang")).parameters


def seconds(m: int, n: int, k: int, *, splits: bool) -> float:
    sizes = (np.asarray(1.0), np.asarray(float(m)), np.asarray(float(n)), np.asarray(float(k)))
    return float(gemm_s(silicon(H100, "fp8_block"), sizes, gemm_kernel("fp8_block", splits), FIT))


@given(st.integers(1, 8192), st.integers(32, 16384), st.integers(64, 65536))
def test_a_library_that_may_split_is_never_slower(m: int, n: int, k: int) -> None:
    assert seconds(m, n, k, splits=True) <= seconds(m, n, k, splits=False)


def test_a_deep_and_narrow_product_wants_to_be_split() -> None:
    assert seconds(64, 256, 51200, splits=False) > 1.5 * seconds(64, 256, 51200, splits=True)
    wide = seconds(8192, 8192, 4096, splits=False)
    assert wide == pytest.approx(seconds(8192, 8192, 4096, splits=True))


@pytest.mark.parametrize(
    ("generation", "dtype", "backend", "splits"),
    [
        ("hopper", "fp8_block", "sglang", False), ("blackwell", "nvfp4", "", False), ("hopper", "fp8", "vllm", False),
        ("hopper", "fp8", "trtllm", True), ("blackwell", "bf16", "vllm", True), ("ampere", "fp8_block", "vllm", True),
    ],
)  # fmt: skip
def test_who_splits(generation: str, dtype: str, backend: str, splits: bool) -> None:
    assert choose.gemm_splits(generation, dtype, backend) is splits
