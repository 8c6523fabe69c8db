"""The price of every op of every program: finite, provenanced, growing with work; and the floor under a step."""

import math
from dataclasses import replace

import numpy as np
import pytest
from deployments import DEEPSEEK, LLAMA, MOE, cluster, short
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, cases

from simulator.cost.floor import floor_s, linear_flops, read_bytes
from simulator.cost.op import PRICES, expected_rows, price_op, slowest_share, together
from simulator.cost.price import Price
from simulator.hardware.catalogue import find_device
from simulator.numeric.batch import programs_of, works_of
from simulator.parallel.layout import Layout
from simulator.program import ops
from simulator.program.build import Program, build
from simulator.program.frame import Options
from simulator.program.work import Sequence, Work

H100 = find_device("H100-SXM")
COMPUTE = ops.ComputeOp.__args__  # type: ignore[attr-defined]


def priced(program: Program, ep_index: int = 0) -> float:
    return sum(
        price_op(op, H100, ep_index).time_s  # type: ignore[arg-type]
        for _, op in program.ops()
        if not isinstance(op, ops.Collective | ops.Send | ops.Receive)
    )


def test_every_op_has_a_price() -> None:
    assert set(PRICES) | {ops.Experts} == set(COMPUTE)


@settings(max_examples=40)
@given(case=cases(), new=st.integers(1, 300), past=st.sampled_from((0, 77)))
def test_prices_are_times(case: Case, new: int, past: int) -> None:
    sequences = (Sequence(0, new if past == 0 else 1, past), Sequence(1, 3 if past == 0 else 1, past))
    for program in programs_of(case.architecture, case.layout, works_of(sequences, case.layout)):
        for _, op in program.ops():
            if isinstance(op, ops.Collective | ops.Send | ops.Receive):
                continue
            price = price_op(op, H100, 0)
            assert math.isfinite(price.time_s)
            assert price.time_s >= 0
            assert 0 <= price.error < 2
            assert price.provenance in ("measured", "fitted", "roofline")
            assert price.bound in ("compute", "memory", "latency")


@pytest.mark.parametrize("model", [LLAMA, MOE, DEEPSEEK])
@pytest.mark.parametrize("topology", ["dgx_a100", "dgx_h100", "hgx_h800", "dgx_b200", "mi300x"])
def test_a_step_takes_longer_with_more_work_and_never_less_than_its_floor(model: str, topology: str) -> None:
    gpu, layout = cluster(topology).device(), Layout(tp=4)
    last = 0.0
    for tokens in (16, 256, 4096, 32768):
        program = build(short(model), layout, 0, (Work((Sequence(0, tokens, 0),)),))
        time_s = sum(
            price_op(op, gpu).time_s  # type: ignore[arg-type]
            for _, op in program.ops()
            if not isinstance(op, ops.Collective | ops.Send | ops.Receive)
        )
        assert time_s > last
        assert time_s >= floor_s(program, gpu) > 0
        last = time_s


@pytest.mark.parametrize("model", [LLAMA, DEEPSEEK])
def test_longer_contexts_read_more(model: str) -> None:
    found = [
        build(short(model), Layout(tp=2), 0, (Work(tuple(Sequence(i, 1, past) for i in range(8))),))
        for past in (100, 5_000, 50_000)
    ]
    assert [priced(p) for p in found] == sorted({priced(p) for p in found})
    assert [read_bytes(p) for p in found] == sorted({read_bytes(p) for p in found})


def test_tensor_parallel_ranks_share_the_flops() -> None:
    whole, part = (
        linear_flops(build(short(LLAMA), Layout(tp=tp), 0, (Work((Sequence(0, 512, 0),)),)))["bf16"] for tp in (1, 8)
    )
    assert part == pytest.approx(whole / 8)


def test_floor_of_a_dense_decode_step_is_its_weights_over_the_memory_rate() -> None:
    """Llama-3.1-8B, one sequence: 32 x (qkv, o, gate, up, down) and the head, each read once in bf16."""
    architecture = short(LLAMA, 32)
    program = build(architecture, Layout(), 0, (Work((Sequence(0, 1, 1),)),))
    per_layer = 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336
    weights = 2 * (32 * per_layer + 4096 * 128256)
    cache = 32 * 2 * 2 * 1024 * 2
    assert read_bytes(program) == pytest.approx(weights + cache)
    assert floor_s(program, H100) == pytest.approx((weights + cache) / H100.hbm_bytes_per_s)


@given(rows=st.lists(st.floats(0.0, 500.0), min_size=1, max_size=40).map(tuple))
def test_expected_rows_keep_the_total(rows: tuple[float, ...]) -> None:
    """Up to rounding: one row an expert."""
    found = expected_rows(rows)
    assert len(found) == len(rows)
    assert all(count >= 0 for count in found)
    assert abs(sum(found) - sum(rows)) <= len(rows)
    busy = sum(1 - math.exp(-r) for r in rows)
    assert abs(sum(count > 0 for count in found) - min(busy, sum(rows))) <= 1.5


def test_a_small_batch_leaves_experts_idle() -> None:
    assert sum(count > 0 for count in expected_rows((0.1,) * 50)) < 10
    assert expected_rows((0.0,) * 4) == (0, 0, 0, 0)
    assert expected_rows((100.0,) * 4) == (100,) * 4


def test_kernels_together_say_the_weakest_provenance_and_the_longest_bound() -> None:
    fast, slow = Price(1e-6, "measured", 0.1, "latency"), Price(3e-6, "fitted", 0.5, "memory")
    both = together(fast, slow)
    assert both == Price(pytest.approx(4e-6), "fitted", pytest.approx(0.4), "memory")  # type: ignore[arg-type]
    assert together().time_s == 0.0
    assert together(fast, replace(slow, provenance="roofline")).provenance == "roofline"


def test_windows_and_chunks_bound_what_is_read() -> None:
    whole = short(LLAMA, 1)
    layer = whole.layers[0]
    times = []
    for window in (None, 512, 16):
        attention = replace(layer.attention, window=window)
        narrow = replace(whole, layers=(replace(layer, attention=attention),))
        program = build(narrow, Layout(), 0, (Work(tuple(Sequence(i, 1, 9000) for i in range(16))),))
        times.append(priced(program))
    assert times[0] > times[1] > times[2]


def test_skewed_experts_cost_more_on_their_rank() -> None:
    layout = Layout(dp_attention=8, ep=8)
    work = Work(tuple(Sequence(i, 1, 500) for i in range(256)))
    program = build(short(MOE), layout, 0, (work,), Options(expert_skew=0.8))
    load = next(op.load for _, op in program.ops() if isinstance(op, ops.Experts))
    by_load = sorted(range(8), key=lambda rank: load.totals[rank])
    assert priced(program, by_load[-1]) > priced(program, by_load[0])
    even = build(short(MOE), layout, 0, (work,), Options())
    assert priced(program, by_load[-1]) > priced(even)


def test_ranks_wait_for_the_one_that_chance_gave_most() -> None:
    """Against 100,000 draws; a slip to the mean would be a third too low."""
    rng = np.random.default_rng(5)
    for mean, ranks in ((3.5, 8), (40.0, 4), (0.4, 16)):
        drawn = rng.poisson(mean, (100_000, ranks)).max(axis=1).mean()
        assert slowest_share(mean, ranks) * mean == pytest.approx(drawn, rel=0.01)
    assert slowest_share(7.0, 1) == 1.0
