"""Kernel times: positive, finite, above the roofline, monotone, honest about where they come from."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost import kernel
from simulator.cost.kernel import families
from simulator.cost.kernel.choose import Key, attention_kind
from simulator.cost.kernel.parameters import fitted
from simulator.cost.kernel.skew import expert_loads
from simulator.cost.kernel.work import causal_pairs, seen_keys
from simulator.errors import CalibrationError, KernelError
from simulator.hardware.catalogue import find_device
from simulator.hardware.device import Device

GPUS = ("A100-80GB-SXM", "H100-SXM", "H200-SXM", "L40S", "B200-SXM", "MI300X")
FORMATS = ("bf16", "fp8", "fp8_block", "nvfp4", "mxfp4", "int8", "int8_wo", "int4", "fp32")
devices = st.sampled_from(GPUS).map(find_device)
formats = st.sampled_from(FORMATS)
sizes = st.integers(1, 20000)
fast = settings(max_examples=60, deadline=None)


@fast
@given(devices, formats, sizes, sizes, sizes)
def test_gemm_is_finite_and_above_the_roofline(device: Device, dtype: str, m: int, n: int, k: int) -> None:
    price = kernel.gemm(device, m, n, k, dtype)
    assert math.isfinite(price.time_s)
    assert price.time_s > 1e-6
    assert price.time_s >= 2.0 * m * n * k / max(device.peak_flops_per_s.values())
    assert 0 < price.error < 1


@fast
@given(devices, formats, st.tuples(sizes, sizes, sizes), st.sampled_from((0, 1, 2)), st.integers(1, 5000))
def test_gemm_never_shrinks_with_a_dimension(
    device: Device, dtype: str, shape: tuple[int, int, int], axis: int, more: int
) -> None:
    grown = list(shape)
    grown[axis] += more
    small, large = kernel.gemm(device, *shape, dtype), kernel.gemm(device, *grown, dtype)
    assert large.time_s >= small.time_s * (1 - 1e-9)


@fast
@given(devices, formats, sizes, sizes, sizes, st.floats(1.01, 4.0))
def test_more_bandwidth_or_compute_is_never_slower(
    device: Device, dtype: str, m: int, n: int, k: int, factor: float
) -> None:
    faster_hbm = dataclasses.replace(device, name="faster", hbm_bytes_per_s=device.hbm_bytes_per_s * factor)
    peaks = {unit: rate * factor for unit, rate in device.peak_flops_per_s.items()}
    faster_mma = dataclasses.replace(device, name="stronger", peak_flops_per_s=peaks)
    plain = kernel.gemm_times(device, m, n, k, dtype)
    assert kernel.gemm_times(faster_hbm, m, n, k, dtype) <= plain * (1 + 1e-9)
    assert kernel.gemm_times(faster_mma, m, n, k, dtype) <= plain * (1 + 1e-9)


heads = st.sampled_from(((8, 8), (32, 8), (20, 4), (12, 1)))
caches = st.sampled_from(("bf16", "fp8"))
windows = st.sampled_from((None, 128, 1000))


@fast
@given(devices, st.integers(1, 300), st.integers(1, 30000), heads, caches, windows, st.integers(1, 9999))
def test_decode_grows_with_the_cache(
    device: Device, n: int, each: int, shape: tuple[int, int], kv: str, window: int | None, more: int
) -> None:
    def price(tokens: int) -> float:
        return kernel.attention_decode(device, n, tokens, *shape, 128, 96, kv, window).time_s

    assert 0 < price(n * each) <= price(n * (each + more)) * (1 + 1e-9)
    read = n * min(each, window or each) * shape[1] * (128 + 96) * (2 if kv == "bf16" else 1)
    assert price(n * each) >= read / device.hbm_bytes_per_s


@fast
@given(devices, st.integers(9, 5000), st.integers(0, 5000), heads, windows, st.integers(1, 3000))
def test_prefill_grows_with_tokens_and_past(
    device: Device, new: int, past: int, shape: tuple[int, int], window: int | None, more: int
) -> None:
    def price(*sequences: tuple[int, int]) -> float:
        return kernel.attention_prefill(device, sequences, *shape, 128, 128, "bf16", window).time_s

    base = price((new, past))
    assert base <= price((new + more, past)) * (1 + 1e-9)
    assert base <= price((new, past + more)) * (1 + 1e-9)
    assert base <= price((new, past), (more, 7)) * (1 + 1e-9) <= (base + price((more, 7))) * (1 + 1e-6)


@fast
@given(devices, st.integers(1, 200), st.integers(1, 20000), st.integers(1, 128), caches, st.integers(1, 5000))
def test_latent_attention_grows(device: Device, n: int, each: int, q: int, kv: str, more: int) -> None:
    def decode(tokens: int) -> float:
        return kernel.mla_decode(device, n, tokens, q, 512, 64, kv).time_s

    def prefill(new: int) -> float:
        return kernel.mla_prefill(device, ((new, 13),), q, 512, 64, 128, 128, kv).time_s

    # The number of splits rounds the last wave: up to one tile step.
    assert 0 < decode(n * each) <= decode(n * (each + more)) * 1.05
    assert 0 < prefill(8 + each) <= prefill(8 + each + more) * (1 + 1e-9)


rows = st.lists(st.integers(0, 3000), min_size=1, max_size=12).map(tuple)


@fast
@given(devices, formats, rows, st.integers(0, 11), st.integers(1, 4000))
def test_experts_grow_with_any_load(device: Device, dtype: str, loads: tuple[int, ...], which: int, more: int) -> None:
    place = which % len(loads)
    grown = (*loads[:place], loads[place] + more, *loads[place + 1 :])
    small = kernel.moe_ffn(device, loads, 2560, 1408, dtype)
    large = kernel.moe_ffn(device, grown, 2560, 1408, dtype)
    assert small.time_s <= large.time_s * (1 + 1e-9)
    assert (small.time_s == 0) == (sum(loads) == 0)
    one = kernel.grouped_gemm(device, grown, 2816, 2560, dtype)
    assert 0 < one.time_s <= large.time_s


def test_uneven_experts_cost_more_than_even_ones_of_the_same_total() -> None:
    device = find_device("H100-SXM")
    even = kernel.moe_ffn(device, (130, 130, 130, 130), 7168, 2048, "fp8_block").time_s
    assert kernel.moe_ffn(device, (520, 0, 0, 0), 7168, 2048, "fp8_block").time_s != even
    assert (
        kernel.moe_ffn(device, (8,) * 32, 7168, 2048, "bf16").time_s
        > 1.5 * kernel.moe_ffn(device, (256, *(0,) * 31), 7168, 2048, "bf16").time_s
    ), "thirty-two experts' weights are read, not one's"


def test_scalars_and_arrays_agree() -> None:
    device = find_device("B200-SXM")
    m, n = np.array([1, 33, 700]), np.array([[512], [4097]])
    times = kernel.gemm_times(device, m, n, 1536, "nvfp4")
    assert times.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        assert times[i, j] == pytest.approx(kernel.gemm(device, int(m[j]), int(n[i, 0]), 1536, "nvfp4").time_s)
    decode = kernel.attention_decode_times(device, [1, 40], [900, 52000], 16, 2, 128, 128, "fp8")
    assert decode[1] == pytest.approx(kernel.attention_decode(device, 40, 52000, 16, 2, 128, 128, "fp8").time_s)
    prefill = kernel.attention_prefill_times(device, [1, 3], [900, 52], [0, 11], 16, 2, 128, 128, "bf16", 512)
    three = kernel.attention_prefill(device, ((52, 11),) * 3, 16, 2, 128, 128, "bf16", 512)
    assert prefill[1] == pytest.approx(three.time_s)
    latent = kernel.mla_decode_times(device, [5, 40], [900, 52000], 16, 512, 64, "fp8")
    assert latent[0] == pytest.approx(kernel.mla_decode(device, 5, 900, 16, 512, 64, "fp8").time_s)
    experts = kernel.moe_ffn_times(device, [300, 30], [3, 3], 2560, 1408, "fp8")
    assert experts[0] == pytest.approx(kernel.moe_ffn(device, (100, 100, 100), 2560, 1408, "fp8").time_s)


def test_causal_pairs_count_what_brute_force_counts() -> None:
    for new, past, window in ((7, 0, None), (7, 5, None), (7, 5, 4), (3, 9, 10), (9, 2, 6), (4, 0, 100)):
        seen = [[k for k in range(past + i + 1) if window is None or k > past + i - window] for i in range(new)]
        assert causal_pairs(np.array(float(new)), np.array(float(past)), window) == sum(len(s) for s in seen)
        assert seen_keys(np.array(float(new)), np.array(float(past)), window) == len({k for s in seen for k in s})


@given(
    st.integers(1, 3000),
    st.sampled_from(((16, 4), (64, 8), (160, 5))),
    st.integers(1, 8),
    st.sampled_from(("balanced", "power_law_1.2", "power_law_1.01")),
)
@settings(max_examples=30, deadline=None)
def test_the_heaviest_rank_carries_at_least_its_share(
    tokens: int, split: tuple[int, int], top_k: int, distribution: str
) -> None:
    experts, ranks = split
    loads = expert_loads(tokens, experts, top_k, ranks, distribution)
    assert loads.shape[1] == experts // ranks
    assert (loads >= 0).all()
    if distribution != "balanced":
        assert (loads.max(axis=1) <= tokens).all()
        everything = expert_loads(tokens, experts, top_k, 1, distribution)
        # Tokens that would have met an expert twice are dropped, the heavier the tail the more.
        assert (everything.sum(axis=1) <= tokens * top_k).all()
        assert loads.sum(axis=1).mean() >= 0.9 * everything.sum(axis=1).mean() / ranks


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
def test_wrong_sizes_are_named(wrong: float) -> None:
    device = find_device("H100-SXM")
    with pytest.raises(KernelError, match=r"gemm\.n"):
        kernel.gemm_times(device, 16, [8, wrong], 64, "bf16")
    with pytest.raises(KernelError, match=r"attention_prefill\.past"):
        kernel.attention_prefill(device, ((5, wrong),), 8, 8, 128, 128, "bf16")  # type: ignore[arg-type]
    with pytest.raises(KernelError, match=r"moe_ffn\.rows"):
        kernel.moe_ffn(device, (3, wrong), 64, 64, "bf16")  # type: ignore[arg-type]
    with pytest.raises(KernelError, match="rotary"):
        kernel.elementwise(device, wrong, 1.0, "rotary")


def test_unknown_formats_are_named() -> None:
    device = find_device("H100-SXM")
    with pytest.raises(KernelError, match="int3"):
        kernel.gemm(device, 1, 1, 1, "int3")
    with pytest.raises(KernelError, match="int3"):
        kernel.attention_decode(device, 1, 1, 1, 1, 64, 64, "int3")
    with pytest.raises(CalibrationError, match="gemv"):
        fitted("gemv", Key("bf16", "hopper"))


def test_nothing_to_do_takes_no_time() -> None:
    device = find_device("A100-80GB-SXM")
    assert kernel.gemm(device, 0, 4096, 4096, "bf16").time_s == 0
    assert kernel.attention_prefill(device, (), 8, 8, 128, 128, "bf16").time_s == 0
    assert kernel.attention_prefill(device, ((0, 30),), 8, 8, 128, 128, "bf16").time_s == 0
    assert kernel.attention_decode(device, 0, 0, 8, 8, 128, 128, "bf16").time_s == 0
    assert kernel.mla_decode(device, 0, 0, 8, 512, 64, "bf16").time_s == 0
    assert kernel.moe_ffn(device, (), 64, 64, "bf16").time_s == 0
    assert kernel.elementwise(device, 0, 0).time_s == 0


def test_provenance_follows_where_the_parameters_come_from() -> None:
    shape = (512, 4096, 4096, "bf16")
    assert kernel.gemm(find_device("H100-SXM"), *shape).provenance == "fitted"
    assert kernel.gemm(find_device("H200-SXM"), *shape).provenance == "fitted", "its generation was measured"
    borrowed = kernel.gemm(find_device("L40S"), *shape)
    assert borrowed.provenance == "roofline"
    assert borrowed.error > kernel.gemm(find_device("A100-80GB-SXM"), *shape).error
    assert kernel.gemm(find_device("MI300X"), *shape).provenance == "roofline"
    assert kernel.elementwise(find_device("H100-SXM"), 1e6, 1e6).provenance == "roofline"


def test_the_most_specific_parameters_win() -> None:
    own = fitted("gemm", Key("bf16", "hopper", ("vllm",)))
    assert (own.name, own.borrowed) == ("bf16/hopper/vllm", False)
    assert fitted("gemm", Key("bf16", "hopper", ("other",))).name == "bf16/hopper"
    lent = fitted("gemm", Key("nvfp4", "hopper", ("vllm",)))
    assert (lent.name, lent.borrowed) == ("nvfp4/blackwell/vllm", True)
    assert attention_kind("blackwell", "vllm", 192) == "triton"


def test_a_time_below_the_bound_is_lifted_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bug: a model that promises a tenth of the time; the clamp must hold it at the roofline."""
    device = find_device("H100-SXM")
    honest = families.gemm_s
    monkeypatch.setattr(families, "gemm_s", lambda *a: honest(*a) / 10.0)
    time_s = families.bmm_timed(device, 1, 8192, 8192, 8192, "bf16").time_s
    assert time_s == pytest.approx(2 * 8192**3 / device.peak_flops_per_s["bf16"])
