"""Step-time tables: equal to direct pricing where tabulated, near it between, and what must hold everywhere."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_setups import SMALL, setup, table

from simulator.cost.engine_profile import find_engine
from simulator.cost.floor import floor_s
from simulator.cost.table import Speculation, TableOptions, build_table
from simulator.cost.table.build import token_points
from simulator.cost.table.direct import DirectPricer
from simulator.cost.table.grids import half_octaves, octaves
from simulator.cost.table.table import StepLoad, StepTable
from simulator.errors import WorkloadError
from simulator.parallel.layout import Layout
from simulator.program.work import Sequence, Work

LLAMA = ("Llama-3.1-8B", Layout(tp=2))
MIXTRAL = ("Mixtral-8x7B", Layout(tp=4, ep=2))
DEEPSEEK = ("DeepSeek-V3", Layout(dp_attention=16, ep=16))
GPT_OSS = ("gpt-oss-20b", Layout())
PIPELINE = ("Llama-3.1-8B", Layout(tp=2, pp=3, micro_batches=2))
SETUPS = (LLAMA, MIXTRAL, DEEPSEEK, GPT_OSS)
CASES = pytest.mark.parametrize("case", SETUPS, ids=[name for name, _ in SETUPS])


@st.composite
def loads(draw: st.DrawFn) -> StepLoad:
    prompts = draw(st.integers(1, 4))
    new = draw(st.one_of(st.just(0), st.integers(prompts, 700)))
    decodes = draw(st.integers(0 if new else 1, 250))
    lengths = draw(st.integers(1, 9000))
    past = draw(st.integers(0, 12000)) if new else 0
    return StepLoad(new, past, decodes, decodes * lengths, prompts if new else 1)


def asked(found: StepTable, load: StepLoad) -> float:
    return found.step_time_s(
        load.prefill_tokens, load.prefill_context, load.decode_sequences, load.decode_kv_tokens,
        prefill_sequences=load.prefill_sequences,
    )  # fmt: skip


@CASES
def test_the_parts_add_up_to_the_whole_program(case: tuple[str, Layout]) -> None:
    direct = DirectPricer(setup(*case))
    decodes = tuple(Sequence(i, 1, 1000 + i) for i in range(7))
    kv = sum(s.past + 1 for s in decodes)
    parts = direct.body(0, 7, True, 0.0), direct.head(0, 7), direct.decode_attention(0, 7, kv)
    assert sum(p.time_s for p in parts) == pytest.approx(direct.whole(decodes), rel=1e-9)
    mixed = (Sequence(99, 333, 50), Sequence(98, 333, 50), *decodes)
    parts = (
        direct.body(0, 7 + 666, False, 0.0), direct.head(0, 9), direct.decode_attention(0, 7, kv),
        direct.prefill_attention(0, 333, 50, 2),
    )  # fmt: skip
    assert sum(p.time_s for p in parts) == pytest.approx(direct.whole(mixed), rel=1e-9)


@CASES
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_exact_at_tabulated_points(case: tuple[str, Layout], data: st.DataObject) -> None:
    found = table(*case)
    tokens = token_points(found.reach.tokens, ())
    n = data.draw(st.sampled_from([p for p in half_octaves(1024) if p in tokens and p <= 1024]))
    past = data.draw(st.sampled_from(octaves(256, 16384)))
    load = StepLoad(n, past, 0, 0)
    assert asked(found, load) == pytest.approx(found.exact_step_time_s(load), rel=1e-9)
    s = data.draw(st.sampled_from([p for p in half_octaves(256) if p in tokens and p <= 256]))
    load = StepLoad(0, 0, s, s * data.draw(st.sampled_from(octaves(64, 16384)[1:])))
    assert asked(found, load) == pytest.approx(found.exact_step_time_s(load), rel=1e-9)


@CASES
@settings(max_examples=25, deadline=None)
@given(load=loads())
def test_between_points_near_direct_pricing_and_finite(case: tuple[str, Layout], load: StepLoad) -> None:
    found = table(*case)
    time = asked(found, load)
    assert 0.0 < time < 60.0
    assert time == pytest.approx(found.exact_step_time_s(load), rel=0.12)
    assert found.explain(load).time_s == pytest.approx(time, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(load=loads(), more=st.integers(1, 300), which=st.sampled_from(["kv", "decodes", "context", "prefill"]))
def test_more_work_never_takes_less_time(load: StepLoad, more: int, which: str) -> None:
    """Up to tile steps: a GEMM of one more full tile can be a little faster than the ragged one before it."""
    found = table(*LLAMA)
    if which == "kv":
        bigger = replace(load, decode_kv_tokens=load.decode_kv_tokens + more) if load.decode_sequences else load
    elif which == "decodes" and load.prefill_tokens:
        bigger = replace(
            load, decode_sequences=load.decode_sequences + more, decode_kv_tokens=load.decode_kv_tokens + 500 * more
        )
    elif which == "prefill" and load.prefill_tokens:
        bigger = replace(load, prefill_tokens=load.prefill_tokens + more)
    else:
        bigger = replace(load, prefill_context=load.prefill_context + more) if load.prefill_tokens else load
    assert asked(found, bigger) >= asked(found, load) * 0.97


@CASES
@settings(max_examples=15, deadline=None)
@given(sequences=st.integers(1, 64), past=st.integers(1, 5000), new=st.integers(2, 600))
def test_never_below_the_floor(case: tuple[str, Layout], sequences: int, past: int, new: int) -> None:
    found, given_setup = table(*case), setup(*case)
    direct = DirectPricer(given_setup)
    decodes = tuple(Sequence(i, 1, past) for i in range(sequences))
    for work, load in (
        (decodes, StepLoad(0, 0, sequences, sequences * (past + 1))),
        ((*decodes, Sequence(999, new, 0)), StepLoad(new, 0, sequences, sequences * (past + 1))),
    ):
        from_program = floor_s(direct.program(0, Work(work), 0.0), given_setup.device)
        # Interpolated attention may lie a little under the exact one: 3 % of the floor at most.
        assert asked(found, load) >= from_program * 0.97


def test_one_gemm_over_a_mixed_batch_beats_two_steps() -> None:
    found = table(*LLAMA)
    mixed = found.step_time_s(200, 0, 60, 60 * 700)
    apart = found.step_time_s(200) + found.step_time_s(0, 0, 60, 60 * 700)
    assert mixed < 0.75 * apart


@settings(max_examples=20, deadline=None)
@given(batch=st.lists(loads(), min_size=1, max_size=30))
def test_arrays_equal_scalars(batch: list[StepLoad]) -> None:
    drafting = table(*LLAMA, options=replace(SMALL, speculation=Speculation(2, 0.6, 0.0)))
    for found in (table(*LLAMA), table(*PIPELINE), drafting):
        columns = [[getattr(load, name) for load in batch] for name in StepLoad.__dataclass_fields__]
        many = found.step_times_s(*columns[:4], prefill_sequences=columns[4])
        assert many == pytest.approx([asked(found, load) for load in batch], rel=1e-9)


def test_beyond_the_table_it_prices_exactly_and_says_so() -> None:
    found = table(*LLAMA)
    for load in (StepLoad(5000, 0, 3, 900), StepLoad(0, 0, 400, 400 * 100), StepLoad(0, 0, 2, 2 * 100_000)):
        assert asked(found, load) == pytest.approx(found.exact_step_time_s(load), rel=0.02)
        assert found.explain(load).provenance == "exact"
        assert found.step_times_s(*list(vars_of(load))[:4])[()] == pytest.approx(asked(found, load))
    assert found.explain(StepLoad(0, 0, 4, 400)).provenance == "tabulated"


def vars_of(load: StepLoad) -> list[int]:
    return [getattr(load, name) for name in StepLoad.__dataclass_fields__]


def test_nothing_takes_no_time_and_nonsense_is_refused() -> None:
    found = table(*LLAMA)
    assert found.step_time_s() == 0.0
    assert found.step_times_s(np.zeros(3), 0, 0, 0).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(WorkloadError, match="not negative"):
        found.step_time_s(-1)
    with pytest.raises(WorkloadError, match="not negative"):
        found.step_times_s(0, 0, np.array([4, -4]), 10)
    with pytest.raises(WorkloadError, match="each prefilled sequence"):
        found.step_time_s(3, 0, 0, 0, prefill_sequences=5)
    with pytest.raises(WorkloadError, match="expert_skews"):
        table(*MIXTRAL).step_time_s(0, 0, 4, 400, 0.7)
    with pytest.raises(WorkloadError, match="must ascend"):
        build_table(setup(*LLAMA), TableOptions(expert_skews=(0.5, 0.1)))


def test_graphs_pad_decode_steps_and_spare_launches() -> None:
    engine = find_engine("TensorRT-LLM", "1.0")
    assert engine.padded(33) == 64
    graphs = table(*LLAMA, engine=("TensorRT-LLM", "1.0"))
    three, four = graphs.step_time_s(0, 0, 3, 3000), graphs.step_time_s(0, 0, 4, 4000)
    assert three == pytest.approx(four, rel=0.02)
    slow = replace(engine, launch_s=1e-4)
    eager = build_table(replace(setup(*LLAMA), engine=slow), SMALL)
    assert eager.step_time_s(0, 0, 3, 3000) == pytest.approx(three)
    assert eager.explain(StepLoad(16)).launch_bound
    assert eager.step_time_s(16) > 5 * graphs.step_time_s(16)


def test_more_gpus_never_remove_communication() -> None:
    last = 0.0
    for tp in (1, 2, 4, 8):
        body = DirectPricer(setup("Llama-3.1-8B", Layout(tp=tp))).body(0, 512, False, 0.0)
        assert body.comm_s >= last
        last = body.comm_s
    assert last > 0.0


def test_pipeline_stages_add_and_micro_batches_fill() -> None:
    found = table(*PIPELINE)
    load = StepLoad(0, 0, 64, 64 * 1000)
    one = found.stage_time_s(load)
    assert 3 * one < found.step_time_s(0, 0, 64, 64 * 1000) * 1.2 < 5 * one * 1.2
    single = table("Llama-3.1-8B", Layout(tp=2, pp=3))
    assert single.step_time_s(0, 0, 32, 32 * 1000) < found.step_time_s(0, 0, 64, 64 * 1000)


def test_ranks_of_data_parallel_attention_wait_for_the_slowest() -> None:
    found = table(*DEEPSEEK)
    light, heavy = StepLoad(0, 0, 16, 16 * 100), StepLoad(0, 0, 16, 16 * 8000)
    together = found.synchronised_step_time_s([light, light, heavy])
    assert together == pytest.approx(asked(found, heavy))
    assert together > asked(found, light)
    assert found.synchronised_step_time_s([]) == 0.0


def test_skewed_experts_cost_more_the_more_skewed() -> None:
    options = replace(SMALL, expert_skews=(0.0, 0.4, 0.8))
    found = table(*DEEPSEEK, options=options)
    times = [found.step_time_s(0, 0, 200, 200 * 1000, skew) for skew in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert times == sorted(times)
    assert times[-1] > 1.1 * times[0]
    assert found.step_time_s(0, 0, 200, 200 * 1000) == pytest.approx(times[0])
