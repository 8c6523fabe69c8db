"""Micro-batches that overlap over pipeline stages: throughput is the slowest stage's, a lone request takes them all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.engine_profile import find_engine
from simulator.cost.table import Setup, StepTable, TableOptions, build_table
from simulator.cost.table.table import StepLoad
from simulator.engine.pipelined import Pipelined
from simulator.errors import LayoutError
from simulator.hardware.catalogue import find_device
from simulator.model.catalogue import find_model
from simulator.parallel.layout import Layout
from simulator.validation.links import group_links


def table(pp: int) -> StepTable:
    layout = Layout(tp=2, pp=pp)
    setup = Setup(
        find_model("Llama-3.1-8B"), layout, find_device("H100"),
        lambda axes: group_links("H100", layout.size(axes), 8), find_engine("vLLM"),
    )  # fmt: skip
    return build_table(setup, TableOptions(2048, 256, 4096))


FOUR = table(4)


@settings(max_examples=40, deadline=None)
@given(
    prompts=st.integers(0, 4), new=st.integers(1, 400), decodes=st.integers(0, 200), length=st.integers(1, 3000)
)  # fmt: skip
def test_a_round_lies_between_the_slowest_stage_and_steps_that_do_not_overlap(
    prompts: int, new: int, decodes: int, length: int
) -> None:
    if prompts + decodes == 0:
        return
    load = StepLoad(prompts * new, 0, decodes, decodes * length, max(prompts, 1))
    batches = min(4, prompts + decodes)
    found = Pipelined(FOUR).step_time_s(
        *(load.prefill_tokens, 0, decodes, decodes * length), prefill_sequences=max(prompts, 1)
    )
    # No stage is asked for more than it does: each works through all batches once a round.
    part = StepLoad(-(-prompts * new // batches), 0, -(-decodes // batches), -(-decodes * length // batches),
                    max(1, min(-(-prompts // batches), -(-prompts * new // batches))))  # fmt: skip
    assert found >= batches * FOUR.stage_time_s(part) * (1 - 1e-9)
    # And the batches one after the other, each through all stages, would take longer.
    assert found <= batches * FOUR.step_time_s(part.prefill_tokens, 0, part.decode_sequences, part.decode_kv_tokens,
                                               prefill_sequences=part.prefill_sequences) * 1.35  # fmt: skip


def test_a_lone_sequence_takes_all_stages_and_many_only_the_slowest() -> None:
    pipelined = Pipelined(FOUR)
    alone = pipelined.step_time_s(0, 0, 1, 1000)
    assert alone == pytest.approx(FOUR.step_time_s(0, 0, 1, 1000), rel=0.3)
    many = pipelined.step_time_s(0, 0, 128, 128_000)
    assert many < 0.75 * 4 * FOUR.step_time_s(0, 0, 32, 32_000)
    assert many >= FOUR.stage_time_s(StepLoad(0, 0, 32, 32_000)) * 4 * (1 - 1e-9)


def test_time_grows_with_sequences_and_context() -> None:
    pipelined = Pipelined(FOUR)
    times = [pipelined.step_time_s(0, 0, n, n * 1000) for n in (4, 16, 64, 200)]
    assert times == sorted(times)
    assert pipelined.step_time_s(0, 0, 64, 64 * 500) < pipelined.step_time_s(0, 0, 64, 64 * 3000)


def test_one_stage_has_nothing_to_overlap() -> None:
    with pytest.raises(LayoutError, match="pp: 1: micro-batches overlap over two stages or more"):
        Pipelined(table(1))
