"""Weights are covered, expert loads add up, visits are what drawing experts says, memory only grows."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_architectures import MINIATURES
from strategies import Case, cases, layouts

from simulator.model.architecture import Architecture, MixtureOfExperts, Router
from simulator.model.parameters import Parameter, layer_parameters, outer_parameters
from simulator.model.quantization import parameter_bytes
from simulator.parallel.layout import Layout
from simulator.program import sharding
from simulator.program.build import build, stage_layers
from simulator.program.experts import busyness_order, expert_load, popularity, visit_share
from simulator.program.memory import activations_bytes, kv_cache_bytes, weights_bytes
from simulator.program.sharding import coordinate, expert_placement, local_index, local_size, mesh_axis
from simulator.program.work import Sequence, Work


def parameters_of(architecture: Architecture) -> list[Parameter]:
    found = list(outer_parameters(architecture))
    for layer in architecture.distinct_layers:
        found += layer_parameters(architecture, layer)
    return found


def holders(parameter: Parameter, layout: Layout, ranks: tuple[int, ...]) -> np.ndarray:
    """How many of these ranks hold each element."""
    counts = np.zeros(parameter.shape, int)
    for rank in ranks:
        index = [np.arange(n)[i] for n, i in zip(parameter.shape, local_index(parameter, layout, rank), strict=True)]
        np.add.at(counts, np.ix_(*index), 1)
    return counts


@settings(max_examples=60)
@given(case=cases())
def test_the_ranks_of_a_block_hold_every_weight(case: Case) -> None:
    covers(case)


def covers(case: Case) -> None:
    """Each element as often as the axes that do not cut it say: no gap, no part held twice by accident."""
    layout = case.layout
    block = layout.groups(("dp_attention", "cp", "tp"))[-1]
    for parameter in parameters_of(case.architecture):
        counts = holders(parameter, layout, block)
        assert counts.min() >= 1, parameter.name
        cut = {axis.name: mesh_axis(parameter, axis, layout) for axis in parameter.axes}
        parts = np.prod([layout.size((name,)) for name in cut.values() if name])
        if any(axis.name == "kv_heads" and axis.count < layout.tp for axis in parameter.axes):
            kv_heads = next(axis.count for axis in parameter.axes if axis.name == "kv_heads")
            parts = parts // layout.tp * kv_heads  # neighbours hold the same head
        if cut.get("experts"):
            copies = expert_placement(parameter.axes[0].count, layout).replicas(parameter.axes[0].count)
            shape = (-1, *(1,) * (counts.ndim - 1))
            assert (counts == (len(block) // parts) * copies.reshape(shape)).all(), parameter.name
        else:
            assert (counts == len(block) // parts).all(), parameter.name


@settings(max_examples=60)
@given(case=cases())
def test_local_size_is_that_of_the_fullest_rank(case: Case) -> None:
    for parameter in parameters_of(case.architecture):
        sizes = [
            np.prod(
                [
                    len(np.arange(n)[i])
                    for n, i in zip(parameter.shape, local_index(parameter, case.layout, r), strict=True)
                ]
            )
            for r in range(case.layout.ranks)
        ]
        assert local_size(parameter, case.layout) == max(sizes), parameter.name


def test_a_gap_in_the_shards_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    true = sharding._axis_index
    monkeypatch.setattr(sharding, "_axis_index", lambda axis, layout, _, name: true(axis, layout, 0, name))
    with pytest.raises(AssertionError):
        covers(Case(MINIATURES["qwen3"], Layout(tp=2), ()))


# ---- experts ---------------------------------------------------------------------------------------------------

skews = st.sampled_from((0.0, 0.3, 0.8, 1.5))


@st.composite
def routed(draw: st.DrawFn) -> tuple[MixtureOfExperts, Layout]:
    layout = draw(layouts(16))
    slots = layout.ep * draw(st.integers(1, 4)) + (layout.ep if layout.redundant_experts >= layout.ep else 0)
    experts = max(2, slots - layout.redundant_experts)
    layout = replace(layout, redundant_experts=-experts % layout.ep if layout.ep > 1 else 0)
    return MixtureOfExperts(experts, draw(st.integers(1, min(4, experts))), layout.expert_tp * 3, Router()), layout


@given(drawn=routed(), tokens=st.integers(1, 4000), skew=skews)
def test_expert_load_conserves_tokens(drawn: tuple[MixtureOfExperts, Layout], tokens: int, skew: float) -> None:
    moe, layout = drawn
    load = expert_load(moe, layout, tokens, skew)
    assert sum(load.totals) == pytest.approx(tokens * moe.top_k, rel=1e-9)
    placement = expert_placement(moe.experts, layout)
    per_expert: Counter[int] = Counter()
    for rank, rows in enumerate(load.rows):
        for expert, row in zip(placement.local(rank), rows, strict=True):
            per_expert[expert] += row
    assert max(per_expert.values()) <= tokens * (1 + 1e-9), "a token visits an expert at most once"
    busiest_first = np.argsort(busyness_order(moe.experts, layout))
    ordered = [per_expert[int(e)] for e in busiest_first]
    assert all(a >= b - 1e-9 * tokens for a, b in pairwise(ordered)), "in the order of popularity"


@given(drawn=routed())
def test_placement_uses_every_slot_once(drawn: tuple[MixtureOfExperts, Layout]) -> None:
    moe, layout = drawn
    placement = expert_placement(moe.experts, layout)
    copies = placement.replicas(moe.experts)
    assert copies.sum() == moe.experts + layout.redundant_experts
    assert copies.min() >= 1
    assert copies.max() - copies.min() <= 1
    if copies.max() <= layout.ep:
        for rank in range(layout.ep):
            assert len(set(placement.local(rank))) == len(placement.local(rank)), "copies stand on different ranks"


def test_popularity_falls_and_adds_up() -> None:
    share = popularity(9, 0.7)
    assert share.sum() == pytest.approx(1.0)
    assert (np.diff(share) < 0).all()
    np.testing.assert_allclose(popularity(9, 0.0), 1 / 9)


@pytest.mark.parametrize("skew", [0.0, 0.5])
@pytest.mark.parametrize(
    ("experts", "top_k", "ep", "copies"), [(64, 4, 8, 0), (16, 1, 2, 0), (60, 4, 16, 4), (128, 8, 4, 0)]
)
def test_visits_are_what_drawing_experts_says(experts: int, top_k: int, ep: int, copies: int, skew: float) -> None:
    """Against drawing without replacement, expert by expert, for 20,000 tokens."""
    moe = MixtureOfExperts(experts, top_k, ep, Router())
    layout = Layout(dp_attention=ep, ep=ep, redundant_experts=copies)
    rng = np.random.default_rng(4)
    busy = popularity(experts, skew)[list(busyness_order(experts, layout))]
    keys = np.log(busy) + rng.gumbel(size=(20_000, experts))  # Gumbel top-k draws in proportion
    chosen = np.argsort(-keys, axis=1)[:, :top_k]
    placement = expert_placement(experts, layout)
    per_rank = len(placement.physical) // ep
    slots = [[s // per_rank for s, e in enumerate(placement.physical) if e == expert] for expert in range(experts)]
    pick = rng.integers(0, 2**31, chosen.shape)
    ranks = np.array(
        [[slots[e][p % len(slots[e])] for e, p in zip(*row, strict=True)] for row in zip(chosen, pick, strict=True)]
    )
    visited = np.array([(ranks == rank).any(axis=1).mean() for rank in range(ep)])
    expected = np.array(visit_share(moe, layout, skew))
    if skew == 0.0:  # exact: what is left is the noise of 20,000 draws
        np.testing.assert_allclose(expected, visited, atol=4 * 0.5 / 20_000**0.5)
    else:  # successive drawing includes popular experts less often than their popularity says
        np.testing.assert_allclose(expected.sum(), visited.sum(), rtol=0.03)
        np.testing.assert_allclose(expected, visited, rtol=0.12, atol=0.01)


@given(drawn=routed(), skew=skews)
def test_visits_are_probabilities(drawn: tuple[MixtureOfExperts, Layout], skew: float) -> None:
    moe, layout = drawn
    share = visit_share(moe, layout, skew)
    assert all(0 < part <= 1 + 1e-12 for part in share)
    assert sum(share) <= moe.top_k + 1e-9


# ---- memory ----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(case=cases())
def test_weights_on_all_ranks_are_at_least_the_model(case: Case) -> None:
    architecture, layout = case.architecture, case.layout
    whole = sum(
        parameter_bytes(p, architecture.quantization)
        for layer in architecture.layers
        for p in layer_parameters(architecture, layer)
    ) + sum(parameter_bytes(p, architecture.quantization) for p in outer_parameters(architecture))
    held = sum(weights_bytes(architecture, layout, coordinate(layout, rank, ("pp",))) for rank in range(layout.ranks))
    assert held >= whole * layout.dp * (1 - 1e-12)
    if layout.ranks == 1:
        assert held == pytest.approx(whole)


@settings(max_examples=60)
@given(case=cases(), lengths=st.lists(st.integers(2, 50), min_size=1, max_size=5).map(tuple), more=st.integers(1, 20))
def test_memory_grows_with_work(case: Case, lengths: tuple[int, ...], more: int) -> None:
    architecture, layout = case.architecture, case.layout
    longer = (lengths[0] + more, *lengths[1:])
    wider = (*lengths, more)
    for stage in range(layout.pp):
        cache = [kv_cache_bytes(architecture, layout, stage, given) for given in (lengths, longer, wider)]
        assert 0 < cache[0] <= min(cache[1:])
        peaks = [
            activations_bytes(
                build(architecture, layout, stage, (Work(tuple(Sequence(i, n, 0) for i, n in enumerate(given))),))
            )
            for given in (lengths, longer, wider)
        ]
        assert 0 < peaks[0] <= min(peaks[1:]) + 1e-9


@settings(max_examples=40)
@given(case=cases())
def test_stages_together_hold_every_layer_of_the_cache(case: Case) -> None:
    """Cutting layers over stages neither loses nor repeats cache."""
    architecture, layout = case.architecture, case.layout
    alone = replace(layout, pp=1)
    parts = sum(kv_cache_bytes(architecture, layout, stage, (7, 19)) for stage in range(layout.pp))
    assert parts == pytest.approx(kv_cache_bytes(architecture, alone, 0, (7, 19)))
    assert sum(len(s) for s in stage_layers(len(architecture.layers), layout.pp)) == len(architecture.layers)


@pytest.mark.parametrize(("experts", "top_k"), [(256, 8), (32, 4), (16, 1), (8, 2), (6, 5)])
@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0])
def test_with_an_expert_a_rank_visits_are_inclusions(experts: int, top_k: int, skew: float) -> None:
    """Then a token visits a rank exactly as often as it chooses the rank's expert."""
    moe, layout = MixtureOfExperts(experts, top_k, 4, Router()), Layout(dp_attention=experts, ep=experts)
    chosen = expert_load(moe, layout, 1.0, skew).totals
    np.testing.assert_allclose(visit_share(moe, layout, skew), chosen, atol=1e-4)
