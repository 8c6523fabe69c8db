"""The steady state of real step times: monotone in the limits, and near the simulation it stands for."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.table import TableOptions, build_table
from simulator.cost.table.direct import DirectPricer
from simulator.parallel.layout import Layout
from simulator.planning.assess import Assessed, assess, replica_of, table_for
from simulator.planning.coarse import REPLAY, coarse_table
from simulator.planning.designs import Design, designs, setup_of
from simulator.planning.piped import piped
from simulator.planning.question import Question
from simulator.planning.simulate import Task, simulate
from simulator.planning.steady import Batch, Curve, prefill_curve, serving_curve
from tests.planning_questions import question


@lru_cache(maxsize=4)
def table(tp: int):  # type: ignore[no-untyped-def]
    asked = question()
    return table_for(asked, DirectPricer(setup_of(asked, Design(0, Layout(tp=tp), "bf16", "", "vllm"))))


def curve(asked: Question, tp: int, pp: int, kv_tokens: float = 200_000.0, role: str = "mixed") -> Curve:
    design = Design(0, Layout(tp=tp, pp=pp), "bf16", "", "vllm")
    steps = piped(table(tp), asked.platforms[0], design.layout)
    replica = replica_of(design, steps, Batch(64, 8192, kv_tokens), asked)
    return prefill_curve(replica, asked, 0.01) if role == "prefill" else serving_curve(replica, asked, role)  # type: ignore[arg-type]


LIMIT = st.floats(0.006, 0.2)


@given(LIMIT, st.floats(1.0, 4.0), st.sampled_from([(1, 1), (2, 1), (1, 2)]), st.sampled_from(["mixed", "decode"]))
@settings(max_examples=25, deadline=None)
def test_a_tighter_tpot_never_holds_more(tpot_s: float, looser: float, cut: tuple[int, int], role: str) -> None:
    tight = curve(question(tpot_s=tpot_s), *cut, role=role)
    loose = curve(question(tpot_s=tpot_s * looser), *cut, role=role)
    assert tight.held <= loose.held * (1 + 1e-9)
    assert tight.best_load <= loose.best_load * (1 + 1e-9)


@given(st.floats(0.03, 2.0), st.floats(1.0, 4.0), st.sampled_from(["mixed", "prefill"]))
@settings(max_examples=20, deadline=None)
def test_a_tighter_ttft_never_holds_more(ttft_s: float, looser: float, role: str) -> None:
    tight = curve(question(ttft_s=ttft_s), 1, 1, role=role)
    loose = curve(question(ttft_s=ttft_s * looser), 1, 1, role=role)
    assert tight.held <= loose.held * (1 + 1e-9)


@given(st.floats(2_000.0, 300_000.0), st.floats(1.0, 3.0))
@settings(max_examples=15, deadline=None)
def test_more_kv_memory_never_holds_less(kv_tokens: float, more: float) -> None:
    asked = question(tpot_s=0.05)
    assert curve(asked, 1, 1, kv_tokens).held <= curve(asked, 1, 1, kv_tokens * more).held * 1.08 + 1e-9


@given(st.sampled_from(["mixed", "decode", "prefill"]), st.sampled_from([(1, 1), (2, 1), (1, 2)]), LIMIT)
@settings(max_examples=15, deadline=None)
def test_the_best_case_bounds_what_holds(role: str, cut: tuple[int, int], tpot_s: float) -> None:
    found = curve(question(tpot_s=tpot_s), *cut, role=role)
    assert found.held <= found.best_load * (1 + 1e-9)


@pytest.mark.parametrize("role", ["mixed", "decode"])
def test_the_load_is_what_littles_law_says(role: str) -> None:
    """Sequences decoding = load x time that a request decodes, at the mean batch's step time."""
    asked = question(tpot_s=0.2)
    found = curve(asked, 1, 1, role=role)
    for load, batch in zip(found.load, found.decode_batch, strict=True):
        _, tpot, _, _, _ = found.at(load)
        in_time = load * (asked.traffic.mean_output - 1) * tpot
        assert batch <= in_time * (1 + 1e-6)  # TPOT is told at the percentile's batch: never shorter than the mean's


def held(part: Assessed, asked: Question) -> float:
    (points,) = simulate(Task(asked, (part,)))
    return max((p.load for p in points if p.holds), default=0.0)


def test_the_steady_state_lies_near_the_simulation() -> None:
    """Within a quarter for every cut and role of a small case: it ranks, the simulation decides."""
    asked = question(space=replace(question().space, modes=("aggregated", "separated")))
    good, _ = designs(asked)
    parts = [a for design in good for a in assess((asked, (design,))) if a.status == "scored"]
    assert len(parts) == 12
    for part in parts[::2]:
        assert part.curve is not None
        assert held(part, asked) == pytest.approx(part.curve.held, rel=0.25), part.design


@pytest.mark.parametrize(
    ("model", "layout", "skew"),
    [("Qwen3-8B", Layout(tp=2), 0.0), ("Qwen3-30B-A3B", Layout(dp_attention=4, ep=4), 1.0)],
)
def test_coarse_tables_lie_near_full_ones(model: str, layout: Layout, skew: float) -> None:
    setup = setup_of(question(model=model), Design(0, layout, "bf16", "", "vllm"))
    coarse = coarse_table(DirectPricer(setup), tokens=4096, sequences=128, context=4000, skew=skew, grain=REPLAY)
    full = build_table(setup, TableOptions(4224, 128, 4000, expert_skews=(skew,), prefill_counts=REPLAY.prompts))
    n = np.array([1, 3, 9, 17, 47, 100, 127])
    decodes = coarse.step_times_s(0, 0, n, n * 2111) / full.step_times_s(0, 0, n, n * 2111)
    assert np.abs(decodes - 1.0).max() < 0.03
    rng = np.random.default_rng(3)
    prompts = rng.integers(1, 9, 60)
    load = (rng.integers(200, 4000, 60), rng.integers(0, 2000, 60) * prompts, rng.integers(0, 90, 60))
    steps = [t.step_times_s(*load, load[2] * 1777, prefill_sequences=prompts) for t in (coarse, full)]
    assert np.median(np.abs(steps[0] / steps[1] - 1.0)) < 0.01
    assert np.abs(steps[0] / steps[1] - 1.0).max() < 0.08
