"""Expert popularity in steps with prompts and without."""

from dataclasses import replace

import pytest

from simulator.cost.engine_profile import find_engine
from simulator.cost.table import Setup, StepTable, TableOptions, build_table
from simulator.cost.table.table import StepLoad
from simulator.engine.server import BALANCED_EP, PROMPT_ROUTING_SKEW, ROUTING_SKEW, prompt_skew
from simulator.hardware.catalogue import find_device
from simulator.model.catalogue import find_model
from simulator.parallel.layout import Layout
from simulator.validation.links import group_links

LAYOUT = Layout(tp=8, ep=8)
SETUP = Setup(
    find_model("Qwen/Qwen3-235B-A22B"), LAYOUT, find_device("H200"),
    lambda axes: group_links("H200-SXM", LAYOUT.size(axes), 8), find_engine("SGLang"),
)  # fmt: skip


def options(skew: float, prompt_skew: float = 0.0) -> TableOptions:
    return TableOptions(4096, 64, 8192, expert_skews=(skew,), prompt_skew=prompt_skew, prefill_counts=(1, 4))


PROMPT, DECODE, MIXED, BEYOND = (
    StepLoad(4000, 0, 0, 0, 1), StepLoad(0, 0, 32, 32_000, 0), StepLoad(2000, 0, 32, 32_000, 1),
    StepLoad(9000, 0, 0, 0, 1),
)  # fmt: skip


def test_prompts_run_at_their_own_skew_and_decodes_at_theirs() -> None:
    even, both = build_table(SETUP, options(0.4)), build_table(SETUP, options(0.4, 1.3))
    skewed = build_table(SETUP, options(1.3))
    for load in (PROMPT, MIXED, BEYOND):
        assert both.explain(load).time_s == pytest.approx(skewed.explain(load).time_s)
        assert both.explain(load).time_s > 1.1 * even.explain(load).time_s
    assert both.explain(DECODE).time_s == even.explain(DECODE).time_s
    for load in (PROMPT, DECODE, BEYOND):
        assert both.exact_step_time_s(load) == pytest.approx(both.explain(load).time_s, rel=0.05)


def test_wide_deployments_are_balanced() -> None:
    assert prompt_skew(8) == PROMPT_ROUTING_SKEW
    assert prompt_skew(BALANCED_EP) == ROUTING_SKEW


def test_balanced_experts_stay_balanced() -> None:
    assert options(0.0, 1.3).skew_of(0.0, decode=False) == 0.0
    assert options(1.5, 1.3).skew_of(1.5, decode=False) == 1.5
    assert options(0.4, 1.3).skew_of(0.4, decode=True) == 0.4


def test_what_one_prompts_routing_costs_falls_with_the_root_of_the_prompts() -> None:
    even, both = build_table(SETUP, options(0.4)), build_table(SETUP, options(0.4, 1.3))
    for prompts in (2, 4):
        alone, together = StepLoad(4000, 0, 0, 0, 1), StepLoad(4000, 0, 0, 0, prompts)
        excess = both.explain(alone).body_s - even.explain(alone).body_s
        assert both.explain(together).body_s - even.explain(together).body_s == pytest.approx(excess / prompts**0.5)
    four = StepLoad(4000, 0, 0, 0, 4)
    assert both.step_time_s(4000, prefill_sequences=4) == pytest.approx(both.explain(four).time_s, rel=1e-9)
    assert both.step_times_s(4000, prefill_sequences=[1, 4])[1] == pytest.approx(both.explain(four).time_s, rel=1e-9)
    assert both.exact_step_time_s(four) == pytest.approx(both.explain(four).time_s, rel=0.05)


def test_prompts_of_all_attention_ranks_count() -> None:
    layout = Layout(tp=1, dp_attention=8, ep=8)
    setup = replace(SETUP, layout=layout, links=lambda axes: group_links("H200-SXM", layout.size(axes), 8))
    even, both = build_table(setup, options(0.4)), build_table(setup, options(0.4, 1.3))
    skewed = build_table(setup, options(1.3))

    def excess(found: StepTable, fill: float) -> float:
        load = StepLoad(4000, 0, 0, 0, 1, fill)
        return found.explain(load).body_s - even.explain(load).body_s

    assert excess(both, 1.0) == pytest.approx(excess(skewed, 1.0) / 8**0.5)
    assert excess(both, 1 / 8) == pytest.approx(excess(skewed, 1 / 8))
    quarter = both.step_time_s(4000, prefill_sequences=1, fill=0.25)
    assert quarter == pytest.approx(both.explain(StepLoad(4000, 0, 0, 0, 1, 0.25)).time_s, rel=1e-9)
