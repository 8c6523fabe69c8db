"""Rates are max-min fair: checked by its certificate on random graphs, not by stored numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import TopologyError
from simulator.network.crossings import Crossings, crossings
from simulator.network.fair import fill, max_min_rates
from simulator.network.fold import fold
from simulator.network.implied import without_implied
from simulator.network.incidence import Floats, Paths, joined, padded, paths_of


@st.composite
def networks(draw: st.DrawFn) -> tuple[Floats, Paths, Floats]:
    """Capacities, paths and caps: few or many links, equal and unequal capacities, paths of 1 to 5 links."""
    links = draw(st.integers(1, 12))
    capacity = draw(st.lists(st.sampled_from([1.0, 2.0, 3.5, 7.25, 40.0]), min_size=links, max_size=links))
    path = st.lists(st.integers(0, links - 1), min_size=1, max_size=min(5, links), unique=True)
    rows = draw(st.lists(path, min_size=1, max_size=40))
    cap = st.one_of(st.just(float("inf")), st.floats(0.05, 8.0))
    caps = draw(st.lists(cap, min_size=len(rows), max_size=len(rows)))
    return np.array(capacity), paths_of(rows), np.array(caps)


def certificate(capacity: Floats, paths: Paths, caps: Floats, rates: Floats, within: float = 1e-9) -> None:
    """No link overfull; each flow at its cap, or on a full link on which no flow has more (Bertsekas and Gallager)."""
    owner = np.repeat(np.arange(paths.flows), paths.lengths())
    load = np.bincount(paths.links, weights=rates[owner], minlength=len(capacity))
    largest = np.zeros(len(capacity))
    np.maximum.at(largest, paths.links, rates[owner])
    assert np.all(load <= capacity * (1 + 1e-9))
    assert np.all(rates <= caps * (1 + 1e-9))
    full = load >= capacity * (1 - 1e-9 - within)
    for flow in range(paths.flows):
        on = paths.path(flow)
        bottleneck = full[on] & (rates[flow] >= largest[on] * (1 - within))
        assert bottleneck.any() or rates[flow] >= caps[flow] * (1 - within), f"flow {flow} has no bottleneck"


@given(network=networks())
def test_every_flow_has_a_bottleneck(network: tuple[Floats, Paths, Floats]) -> None:
    capacity, paths, caps = network
    certificate(capacity, paths, caps, max_min_rates(capacity, paths, caps))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_dense_patterns_that_are_filled_level_by_level_have_bottlenecks_too(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = 12
    rows = [[i, n + j] for i in range(n) for j in range(n) if i != j and generator.random() < 0.7]
    capacity = generator.uniform(1.0, 2.0, 2 * n)
    caps = np.where(generator.random(len(rows)) < 0.3, generator.uniform(0.02, 0.3, len(rows)), np.inf)
    certificate(capacity, paths_of(rows), caps, max_min_rates(capacity, paths_of(rows), caps))


def naive_rates(capacity: Floats, paths: Paths, caps: Floats) -> Floats:
    """Water rises for all flows at once until a link or a cap holds some of them back: the textbook, step by step."""
    rates = np.zeros(paths.flows)
    free = set(range(paths.flows))
    while free:
        room = [float(caps[f]) - rates[f] for f in free]
        for link, whole in enumerate(capacity):
            flows = [f for f in range(paths.flows) if link in paths.path(f)]
            rising = [f for f in flows if f in free]
            if rising:
                room.append((whole - sum(rates[f] for f in flows)) / len(rising))
        step = max(min(room), 0.0)
        for flow in free:
            rates[flow] += step
        load = [sum(rates[f] for f in range(paths.flows) if link in paths.path(f)) for link in range(len(capacity))]
        full = {link for link, whole in enumerate(capacity) if load[link] >= whole - 1e-9}
        free = {f for f in free if not full & set(paths.path(f).tolist()) and rates[f] < caps[f] - 1e-9}
    return rates


@given(network=networks())
@settings(max_examples=40, deadline=None)
def test_rates_equal_those_of_the_naive_filling(network: tuple[Floats, Paths, Floats]) -> None:
    np.testing.assert_allclose(max_min_rates(*network), naive_rates(*network), rtol=1e-6)


def test_the_certificate_catches_rates_that_are_feasible_but_not_fair() -> None:
    capacity, paths = np.array([3.0, 5.0]), paths_of([[0], [0, 1], [1]])
    rates = max_min_rates(capacity, paths)
    np.testing.assert_allclose(rates, [1.5, 1.5, 3.5])
    with pytest.raises(AssertionError, match="no bottleneck"):
        certificate(capacity, paths, np.full(3, np.inf), np.array([2.0, 1.0, 4.0]))


@given(network=networks())
def test_leaving_out_implied_links_changes_no_rate(network: tuple[Floats, Paths, Floats]) -> None:
    capacity, paths, caps = network
    table = without_implied(capacity, padded(paths, len(capacity)))
    np.testing.assert_allclose(
        fill(capacity, crossings(len(capacity), table), caps), max_min_rates(capacity, paths, caps), rtol=1e-9
    )


def test_a_chain_of_links_is_one_link() -> None:
    capacity = np.array([10.0, 2.0, 2.0, 9.0])
    table = without_implied(capacity, padded(paths_of([[0, 1, 2, 3], [0, 1, 2]]), 4))
    assert table.shape[0] == 1
    assert set(table.ravel().tolist()) <= {1, 2}


@given(network=networks(), copies=st.integers(2, 5))
def test_copies_of_a_network_fold_onto_one_and_have_the_same_rates(
    network: tuple[Floats, Paths, Floats], copies: int
) -> None:
    capacity, paths, caps = network
    links = len(capacity)
    moved = [Paths(paths.indptr, paths.links + c * links) for c in range(copies)]
    whole, all_paths, all_caps = np.tile(capacity, copies), joined(moved), np.tile(caps, copies)
    folded = fold(whole, padded(all_paths, len(whole)), (all_caps,))
    assert folded is not None
    assert folded.over.flows <= paths.flows
    rates = fill(folded.capacity, folded.over, all_caps[folded.one_of])[folded.class_of]
    np.testing.assert_allclose(rates, np.tile(max_min_rates(capacity, paths, caps), copies), rtol=1e-9)


@given(network=networks())
def test_folding_within_one_network_changes_no_rate(network: tuple[Floats, Paths, Floats]) -> None:
    capacity, paths, _ = network
    caps = np.full(paths.flows, np.inf)
    folded = fold(capacity, padded(paths, len(capacity)), (caps,))
    if folded is not None:
        rates = fill(folded.capacity, folded.over, caps[folded.one_of])[folded.class_of]
        np.testing.assert_allclose(rates, max_min_rates(capacity, paths, caps), rtol=1e-9)


@given(network=networks(), slack=st.floats(1e-3, 0.05))
def test_slack_overfills_no_link_and_stays_near_fair(network: tuple[Floats, Paths, Floats], slack: float) -> None:
    capacity, paths, caps = network
    over: Crossings = crossings(len(capacity), padded(paths, len(capacity)))
    rates = fill(capacity, over, caps, slack)
    owner = np.repeat(np.arange(paths.flows), paths.lengths())
    assert np.all(np.bincount(paths.links, weights=rates[owner], minlength=len(capacity)) <= capacity * (1 + 1e-9))
    np.testing.assert_allclose(rates, max_min_rates(capacity, paths, caps), rtol=(1 + slack) ** 12 - 1)


@given(network=networks(), factor=st.floats(1.1, 9.0))
def test_rates_scale_with_the_network(network: tuple[Floats, Paths, Floats], factor: float) -> None:
    capacity, paths, caps = network
    np.testing.assert_allclose(
        max_min_rates(capacity * factor, paths, caps * factor), factor * max_min_rates(capacity, paths, caps)
    )


def test_flows_without_links_and_dead_links() -> None:
    paths = paths_of([[], [0], [0, 1], []])
    rates = max_min_rates(np.array([4.0, 0.0]), paths, np.array([np.inf, np.inf, np.inf, 3.0]))
    np.testing.assert_array_equal(rates, [np.inf, 4.0, 0.0, 3.0])


@pytest.mark.parametrize(("capacity", "said"), [(-1.0, "negative"), (float("nan"), "negative")])
def test_impossible_capacities_are_refused(capacity: float, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        max_min_rates(np.array([capacity]), paths_of([[0]]))


def test_unknown_links_are_refused() -> None:
    with pytest.raises(TopologyError, match="links are numbered"):
        max_min_rates(np.array([1.0]), paths_of([[1]]))
