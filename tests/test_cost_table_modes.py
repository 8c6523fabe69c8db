"""Speculative decoding and two-batch overlap in step-time tables."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_setups import SMALL, setup, table

from simulator.cost.table import Speculation, TableOptions, build_table
from simulator.cost.table.compose import overlapped_s
from simulator.cost.table.direct import Part
from simulator.cost.table.table import StepLoad
from simulator.errors import WorkloadError
from simulator.parallel.layout import Layout

LLAMA = ("Llama-3.1-8B", Layout(tp=2))
DEEPSEEK = ("DeepSeek-V3", Layout(dp_attention=16, ep=16))


@given(tokens=st.integers(1, 8), acceptance=st.floats(0.0, 0.999))
def test_expected_tokens_of_a_step(tokens: int, acceptance: float) -> None:
    """Equation 1 of arXiv:2211.17192."""
    closed = (1.0 - acceptance ** (tokens + 1)) / (1.0 - acceptance)
    assert Speculation(tokens, acceptance, 0.1).tokens_per_step == pytest.approx(closed, rel=1e-6)


def test_verifying_reads_the_cache_once() -> None:
    plain = table(*LLAMA)
    drafted = table(*LLAMA, options=replace(SMALL, speculation=Speculation(3, 0.7, 0.0)))
    one, four = plain.step_time_s(0, 0, 8, 8 * 4000), drafted.step_time_s(0, 0, 8, 8 * 4000)
    assert one <= four < 1.6 * one
    assert drafted.tokens_per_step == pytest.approx(1 + 0.7 + 0.49 + 0.343)
    assert four / drafted.tokens_per_step < one


def test_drafting_costs_its_share() -> None:
    base = replace(SMALL, speculation=Speculation(2, 0.7, 0.0))
    free, paid = table(*LLAMA, options=base), table(*LLAMA, options=replace(base, speculation=Speculation(2, 0.7, 0.1)))
    host = free.engine.host_s(8)
    device = free.step_time_s(0, 0, 8, 8000) - host
    assert paid.step_time_s(0, 0, 8, 8000) - host == pytest.approx(device * 1.2)


@pytest.mark.parametrize("given_", [(0, 0.5, 0.1), (2, 1.5, 0.1), (2, 0.5, -0.1)])
def test_impossible_drafts_are_refused(given_: tuple[int, float, float]) -> None:
    with pytest.raises(WorkloadError, match="drafts at least one"):
        Speculation(*given_)


@given(compute=st.floats(1e-4, 1.0), comm=st.floats(1e-4, 1.0), layers=st.integers(1, 100))
def test_overlap_lies_between_the_longer_and_the_sum(compute: float, comm: float, layers: int) -> None:
    time = overlapped_s(Part(0.0, compute, comm, 0.0), 0.0, layers, 1.0)
    assert 2 * max(compute, comm) <= time <= 2 * (compute + comm) * (1 + 1e-12)


def test_two_batches_hide_the_exchange_of_experts() -> None:
    plain = table(*DEEPSEEK)
    found = build_table(setup(*DEEPSEEK), TableOptions(1024, 256, 16384, two_batch_overlap=True, prefill_counts=(1,)))
    load = StepLoad(1024, 0, 0, 0)
    assert found.step_time_s(1024) < plain.step_time_s(1024)
    assert found.exact_step_time_s(load) == pytest.approx(found.step_time_s(1024), rel=0.02)
    held = build_table(
        setup(*DEEPSEEK),
        TableOptions(1024, 256, 16384, two_batch_overlap=True, communication_sms=20, prefill_counts=(1,)),
    )
    assert held.step_time_s(1024) >= found.step_time_s(1024)
