"""Flows over time: exact against an independent event loop, the tolerance's error, faults, the incremental fabric."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import StalledError, TopologyError
from simulator.network.fabric import Fabric
from simulator.network.fair import max_min_rates
from simulator.network.incidence import Floats, Ints, Paths, paths_of
from simulator.network.simulate import LinkChange, simulate_flows


@st.composite
def traffic(draw: st.DrawFn) -> tuple[Floats, Paths, Floats, Floats]:
    """Capacities, paths, bytes and starts, drawn through a seed so that sizes are uneven."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    links, flows = draw(st.integers(1, 8)), draw(st.integers(1, 25))
    rows = [generator.permutation(links)[: generator.integers(1, min(4, links) + 1)].tolist() for _ in range(flows)]
    starts = np.where(generator.random(flows) < 0.5, 0.0, generator.uniform(0, 3, flows))
    return generator.uniform(1, 9, links), paths_of(rows), generator.uniform(0.5, 9, flows), starts


def naive_finish(capacity: Floats, paths: Paths, sizes: Floats, starts: Floats) -> Floats:
    """One event at a time, rates from scratch after each."""
    left, finish, now = sizes.copy(), np.full(len(sizes), np.inf), 0.0
    while np.isinf(finish).any():
        active = np.flatnonzero((starts <= now) & np.isinf(finish))
        later = starts[starts > now]
        rates = max_min_rates(capacity, paths.take(active))
        step = min([*(left[active] / rates), *(later - now)])
        left[active] -= rates * step
        now += step
        for flow in active[left[active] <= 1e-9]:
            finish[flow] = now
        if len(later) and now >= later.min() - 1e-12:
            now = max(now, float(later.min()))
    return finish


@given(case=traffic())
@settings(max_examples=60, deadline=None)
def test_exact_simulation_equals_the_naive_one(case: tuple[Floats, Paths, Floats, Floats]) -> None:
    capacity, paths, sizes, starts = case
    found = simulate_flows(capacity, paths, sizes, start_s=starts, tolerance=0.0)
    np.testing.assert_allclose(found, naive_finish(capacity, paths, sizes, starts), rtol=1e-6)


@given(case=traffic())
@settings(max_examples=40, deadline=None)
def test_the_incremental_fabric_equals_the_exact_simulation(case: tuple[Floats, Paths, Floats, Floats]) -> None:
    capacity, paths, sizes, starts = case
    fabric, finish, number = Fabric(capacity), np.full(len(sizes), np.inf), {}
    for flow in np.argsort(starts, kind="stable"):
        for end_s, done in fabric.advance(float(starts[flow])):
            finish[number[done]] = end_s
        number[int(fabric.add(paths.take(np.array([flow])), sizes[[flow]])[0])] = flow
    while len(fabric.flows):
        for end_s, done in fabric.advance(fabric.next_completion_s()):
            finish[number[done]] = end_s
    np.testing.assert_allclose(finish, simulate_flows(capacity, paths, sizes, start_s=starts, tolerance=0.0), rtol=1e-6)


@given(case=traffic(), factor=st.floats(1.05, 4.0))
@settings(max_examples=40, deadline=None)
def test_makespan_is_monotone_in_size_and_scales_with_bandwidth(
    case: tuple[Floats, Paths, Floats, Floats], factor: float
) -> None:
    capacity, paths, sizes, _ = case
    usual = simulate_flows(capacity, paths, sizes, tolerance=0.0)
    np.testing.assert_allclose(
        simulate_flows(capacity, paths, sizes * factor, tolerance=0.0), usual * factor, rtol=1e-9
    )
    np.testing.assert_allclose(
        simulate_flows(capacity * factor, paths, sizes, tolerance=0.0), usual / factor, rtol=1e-9
    )


@given(case=traffic())
@settings(max_examples=40, deadline=None)
def test_no_link_moves_more_than_it_can(case: tuple[Floats, Paths, Floats, Floats]) -> None:
    """Conservation: the bytes over a link are at most its bandwidth times the time it takes."""
    capacity, paths, sizes, _ = case
    makespan = simulate_flows(capacity, paths, sizes, tolerance=0.0).max()
    load = np.bincount(paths.links, weights=np.repeat(sizes, paths.lengths()), minlength=len(capacity))
    assert np.all(load <= capacity * makespan * (1 + 1e-9))


def uneven_all_to_all(n: int, seed: int) -> tuple[Floats, Paths, Floats]:
    """Every rank's port out and port in, and gamma-distributed sizes with a heavy pair or two."""
    generator = np.random.default_rng(seed)
    rows = [[i, n + j] for i in range(n) for j in range(n) if i != j]
    sizes = generator.gamma(1.5, 1e5, len(rows))
    sizes[generator.integers(0, len(rows), 2)] *= 20
    return generator.uniform(40e9, 50e9, 2 * n), paths_of(rows), sizes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [0.01, 0.03])
def test_error_of_the_tolerance_against_the_exact_solution(seed: int, tolerance: float) -> None:
    capacity, paths, sizes = uneven_all_to_all(16, seed)
    exact = simulate_flows(capacity, paths, sizes, tolerance=0.0)
    near = simulate_flows(capacity, paths, sizes, tolerance=tolerance)
    assert abs(near.max() / exact.max() - 1) <= tolerance
    assert np.abs(near - exact).max() <= 2 * tolerance * exact.max()
    assert np.sqrt(np.mean((near - exact) ** 2)) <= 0.5 * tolerance * exact.max()


def test_arrivals_taken_together_end_no_earlier_than_they_could() -> None:
    generator = np.random.default_rng(5)
    starts, sizes = np.sort(generator.uniform(0, 1.0, 400)), generator.uniform(1.0, 2.0, 400)
    capacity, paths = np.array([600.0]), paths_of([[0]] * 400)
    exact = simulate_flows(capacity, paths, sizes, start_s=starts, tolerance=0.0)
    near = simulate_flows(capacity, paths, sizes, start_s=starts, tolerance=0.01)
    assert np.all(near >= starts + sizes / 600.0 - 1e-12)
    assert np.abs(near - exact).max() <= 0.02 * exact.max()


def test_symmetric_traffic_is_exact_at_any_tolerance() -> None:
    rows = [[i, 40 + j] for i in range(40) for j in range(40) if i != j]
    found = simulate_flows(np.full(80, 50e9), paths_of(rows), np.full(len(rows), 1e6), latency_s=2e-6)
    np.testing.assert_allclose(found, 39 * 1e6 / 50e9 + 2e-6, rtol=1e-12)


def test_caps_and_latency_bound_a_flow_by_itself() -> None:
    found = simulate_flows(
        np.array([10.0]),
        paths_of([[0], [0], []]),
        np.array([6.0, 8.0, 5.0]),
        caps_bytes_per_s=np.array([2.0, np.inf, np.inf]),
        latency_s=np.array([0.5, 0.25, 0.125]),
        tolerance=0.0,
    )
    np.testing.assert_allclose(found, [3.5, 1.25, 0.125])


def test_nothing_to_send_arrives_after_its_latency() -> None:
    assert simulate_flows(np.array([1.0]), paths_of([[0]]), np.zeros(1), start_s=2.0, latency_s=0.5)[0] == 2.5
    assert len(simulate_flows(np.array([1.0]), paths_of([]), np.zeros(0))) == 0


def test_a_link_that_degrades_halfway_slows_the_rest() -> None:
    change = LinkChange(1.0, 0, 2.5)
    found = simulate_flows(np.array([10.0]), paths_of([[0], [0]]), np.array([10.0, 10.0]), changes=[change])
    np.testing.assert_allclose(found, 1.0 + 10.0 / 2.5)


def test_a_flow_over_a_dead_link_is_named() -> None:
    capacity, paths, sizes = np.array([10.0, 4.0]), paths_of([[0], [0, 1]]), np.array([10.0, 10.0])
    with pytest.raises(StalledError, match="flow 1: link 1 is down: 1 flows have no way round"):
        simulate_flows(capacity, paths, sizes, changes=[LinkChange(1.0, 1, 0.0)])
    with pytest.raises(StalledError, match="flow 1: link 1 is down"):
        simulate_flows(np.array([10.0, 0.0]), paths, sizes)


def test_a_flow_is_re_routed_with_the_bytes_it_has_left() -> None:
    def second_link(flows: Ints, capacity: Floats) -> Paths:
        assert capacity[0] == 0.0
        return paths_of([[1]] * len(flows))

    capacity, changes = np.array([10.0, 4.0]), [LinkChange(0.5, 0, 0.0)]
    found = simulate_flows(capacity, paths_of([[0]]), np.array([10.0]), changes=changes, reroute=second_link)
    np.testing.assert_allclose(found, [0.5 + 5.0 / 4.0])


def test_a_link_that_comes_back_is_used_again() -> None:
    changes = [LinkChange(1.0, 0, 1.0), LinkChange(2.0, 0, 10.0)]
    found = simulate_flows(np.array([10.0]), paths_of([[0]]), np.array([20.0]), changes=changes)
    np.testing.assert_allclose(found, [2.0 + 9.0 / 10.0])


def test_the_fabric_takes_faults_too() -> None:
    fabric = Fabric(np.array([10.0, 4.0]), reroute=lambda flows, _: paths_of([[1]] * len(flows)))
    fabric.add(paths_of([[0]]), np.array([10.0]))
    assert fabric.advance(0.5) == []
    fabric.set_capacity(0, 0.0)
    assert fabric.next_completion_s() == pytest.approx(0.5 + 5.0 / 4.0)
    other = fabric.add(paths_of([[1]]), np.array([100.0]))
    assert fabric.next_completion_s() == pytest.approx(0.5 + 5.0 / 2.0)
    fabric.remove(other)
    assert fabric.next_completion_s() == pytest.approx(0.5 + 5.0 / 4.0)
    with pytest.raises(StalledError, match="time does not go back"):
        fabric.advance(0.25)
    stuck = Fabric(np.array([10.0]))
    stuck.add(paths_of([[0]]), np.array([1.0]))
    with pytest.raises(StalledError, match="link 0 is down"):
        stuck.set_capacity(0, 0.0)
    with pytest.raises(TopologyError, match="negative"):
        Fabric(np.array([-1.0]))
