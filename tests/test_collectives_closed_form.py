"""Closed forms equal counting; folded phases equal the schedule; and a few numbers everybody knows."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.collectives.build import BUILDERS, build
from simulator.collectives.closed_form import FORMS, alpha_beta
from simulator.collectives.phases import phases, phases_of
from simulator.collectives.schedule import Kind, Nodes
from simulator.collectives.volume import even_nodes, pair_shares, shape
from simulator.errors import ScheduleError

PAIRS = sorted(BUILDERS)


@st.composite
def groups(draw: st.DrawFn) -> Nodes:
    """Any nodes: one, equal, unequal, and of one rank each; places shuffled."""
    equal = draw(st.booleans())
    count = draw(st.integers(1, 5))
    sizes = [draw(st.integers(1, 4))] * count if equal else draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    places = draw(st.permutations(range(sum(sizes))))
    ends = np.cumsum(sizes)
    return tuple(tuple(places[end - size : end]) for end, size in zip(ends, sizes, strict=True))


def test_every_algorithm_has_a_closed_form() -> None:
    assert FORMS.keys() == BUILDERS.keys()


@pytest.mark.parametrize(("kind", "algorithm"), PAIRS)
@settings(max_examples=25, deadline=None)
@given(nodes=groups(), channels=st.integers(1, 4), pipeline=st.integers(1, 3))
def test_closed_form_equals_counting(kind: Kind, algorithm: str, nodes: Nodes, channels: int, pipeline: int) -> None:
    ranks = sum(len(node) for node in nodes)
    try:
        schedule = build(kind, algorithm, ranks, nodes=nodes, channels=channels, pipeline=pipeline)
    except ScheduleError as refusal:
        with pytest.raises(ScheduleError, match=refusal.rule):
            alpha_beta(kind, algorithm, ranks, nodes=nodes, channels=channels, pipeline=pipeline)
        return
    counted = shape(schedule, nodes)
    form = alpha_beta(kind, algorithm, ranks, nodes=nodes, channels=channels, pipeline=pipeline)
    assert astuple(form) == pytest.approx(astuple(counted), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter"])
@pytest.mark.parametrize("algorithm", ["ring", "hierarchical"])
@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 4), size=st.integers(1, 5), channels=st.integers(1, 3))
def test_folded_phases_equal_the_schedule(kind: Kind, algorithm: str, count: int, size: int, channels: int) -> None:
    nodes = even_nodes(count * size, size)
    direct = phases(kind, algorithm, count * size, nodes=nodes, channels=channels)
    folded = phases_of(build(kind, algorithm, count * size, nodes=nodes, channels=channels))
    assert [phase.repeats for phase in direct] == [phase.repeats for phase in folded]
    for one, other in zip(direct, folded, strict=True):
        np.testing.assert_array_equal(one.sources, other.sources)
        np.testing.assert_array_equal(one.destinations, other.destinations)
        np.testing.assert_allclose(one.shares, other.shares, rtol=1e-12)


@pytest.mark.parametrize(("kind", "algorithm"), PAIRS)
def test_phases_move_the_bytes_of_the_schedule(kind: Kind, algorithm: str) -> None:
    ranks = 2 if kind == "send_recv" else 12
    nodes = (
        even_nodes(ranks, 4) if algorithm in ("hierarchical", "two_level", "nvls_tree") else even_nodes(ranks, ranks)
    )
    schedule = build(kind, algorithm, ranks, nodes=nodes, channels=2)
    moved = np.zeros((schedule.vertices, schedule.vertices))
    for phase in phases(kind, algorithm, ranks, nodes=nodes, channels=2):
        np.add.at(moved, (phase.sources, phase.destinations), phase.shares * phase.repeats)
    np.testing.assert_allclose(moved, pair_shares(schedule), rtol=1e-9, atol=1e-12)
    assert sum(phase.repeats for phase in phases_of(schedule)) == len(schedule.rounds)


@given(n=st.integers(2, 40))
def test_no_all_reduce_without_a_reducing_switch_beats_the_lower_bound(n: int) -> None:
    """2(n - 1) / n of the message must cross the busiest port (Patarasuk and Yuan 2009, theorem 1)."""
    for algorithm in ("ring", "tree", "one_shot", "two_shot", "halving_doubling"):
        assert alpha_beta("all_reduce", algorithm, n).port_share >= 2 * (n - 1) / n - 1e-12
    assert alpha_beta("all_reduce", "nvls", n).port_share == pytest.approx(1 + 1 / n)


def test_numbers_everybody_knows() -> None:
    ring = alpha_beta("all_reduce", "ring", 8)
    assert (ring.rounds, ring.port_share, ring.nic_share) == (14, 1.75, 0.0)
    two_nodes = alpha_beta("all_reduce", "ring", 16, nodes=even_nodes(16, 8), channels=8)
    assert (two_nodes.network_hops, two_nodes.nic_share) == (4, pytest.approx(2 * 15 / 16 / 8))
    flat = alpha_beta("all_to_all", "pairwise", 144, nodes=even_nodes(144, 72))
    assert (flat.rounds, flat.port_share, flat.nic_share) == (143, pytest.approx(71 / 144), 0.5)
    big = alpha_beta("all_reduce", "hierarchical", 16384, nodes=even_nodes(16384, 8))
    assert (big.network_hops, big.hops) == (2 * 2047, 14)


def test_double_binary_trees_share_the_work() -> None:
    """Sanders et al. 2009: with two trees no rank sends more than about twice the message, whatever n is."""
    for n in range(2, 80):
        nodes = even_nodes(n, 1)
        tree = alpha_beta("all_reduce", "tree", n, nodes=nodes)
        assert tree.nic_share <= 2.0 + 1e-12
        assert tree.network_hops <= 2 * (n - 1).bit_length()
