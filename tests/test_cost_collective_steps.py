"""Per-round parameters: running the schedule's rounds takes the closed form's time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.collectives.build import build
from simulator.cost.collective import collective_price, selection, stepwise_parameters
from simulator.topology.group import GroupLinks
from tests.collective_groups import group


def run_rounds(links: GroupLinks, op: str, algorithm: str, size: float) -> float:
    """Round after round over one node: each waits for its largest transfer (all links are alike and idle)."""
    steps = stepwise_parameters(links, op, size, algorithm)
    schedule = build(op, algorithm, links.ranks)  # type: ignore[arg-type]
    share = size / links.ranks if op == "all_to_all" else size / schedule.chunks
    time = steps.launch_s
    for transfers in schedule.rounds:
        sent = max(sum(1 for t in transfers if t.source == rank) for rank in range(links.ranks))
        time += steps.intra_step_s + sent * share / (links.scale_up_bytes_per_s * steps.intra_efficiency)
    return time


@given(
    st.sampled_from(("A100", "H100", "B200", "L40S")),
    st.integers(2, 8),
    st.sampled_from(("all_reduce", "all_gather", "reduce_scatter")),
    st.floats(1.0, 2.0**33),
)
def test_ring_rounds_take_the_closed_form_s_time(gpu: str, ranks: int, op: str, size: float) -> None:
    links = group(gpu, ranks)
    priced = collective_price(links, op, size, algorithm="ring").time_s
    assert run_rounds(links, op, "ring", size) == pytest.approx(priced, rel=1e-6)


@given(st.integers(2, 8), st.sampled_from(("one_shot", "two_shot")), st.floats(64.0, 2.0**25))
def test_engine_kernels_take_the_closed_form_s_time(ranks: int, algorithm: str, size: float) -> None:
    links = group("H100", ranks)
    priced = collective_price(links, "all_reduce", size, algorithm=algorithm).time_s
    assert run_rounds(links, "all_reduce", algorithm, size) == pytest.approx(priced, rel=1e-6)


def test_a_wrong_round_count_would_show() -> None:
    """The oracle above tells a ring of 2 (n - 1) rounds from one of n rounds."""
    links, size = group("H100", 8), 2.0**28
    steps = stepwise_parameters(links, "all_reduce", size, "ring")
    per_round = steps.intra_step_s + size / 8 / (links.scale_up_bytes_per_s * steps.intra_efficiency)
    priced = collective_price(links, "all_reduce", size, algorithm="ring").time_s
    assert steps.launch_s + 14 * per_round == pytest.approx(priced, rel=1e-6)
    assert steps.launch_s + 8 * per_round < 0.8 * priced


@given(
    st.sampled_from(("A100", "H100", "MI300X")),
    st.sampled_from((2, 3, 8)),
    st.sampled_from(("all_reduce", "all_gather", "all_to_all")),
    st.floats(8.0, 2.0**33),
)
def test_several_nodes_never_owe_more_than_the_total(gpu: str, nodes: int, op: str, size: float) -> None:
    links = group(gpu, 4 * nodes, 4)
    steps = stepwise_parameters(links, op, size)
    total = collective_price(links, op, size).time_s
    assert 0.0 <= steps.launch_s <= total
    assert min(steps.intra_step_s, steps.inter_step_s) >= 0.0
    assert min(steps.intra_efficiency, steps.inter_efficiency) > 0.0


def test_nothing_to_run() -> None:
    assert stepwise_parameters(group("H100", 1), "all_reduce", 1e6).launch_s == 0.0
    assert stepwise_parameters(group("H100", 8), "all_reduce", 0.0).launch_s == 0.0
    assert selection(group("H100", 1), "all_reduce", 1e6) == ("ring", "simple")
