"""Schedules as flows over a cluster: equal to the closed form when alone, slower in company, and round faults."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_clusters import boxes

from simulator.collectives.build import BUILDERS, build
from simulator.collectives.closed_form import alpha_beta
from simulator.collectives.phases import phases, phases_of
from simulator.collectives.schedule import Kind
from simulator.collectives.volume import even_nodes
from simulator.errors import ScheduleError, StalledError, TopologyError
from simulator.network.collective import PerMessage, run_matrix, run_phases, run_schedule
from simulator.network.concurrent import Job, run_jobs
from simulator.network.incidence import paths_of
from simulator.network.pipeline import run_pipelined
from simulator.network.routing import Policy, Wires, cluster_router, least_loaded, wires
from simulator.network.simulate import LinkChange
from simulator.topology.spec import LINK_KINDS

ALPHA_S, PORT_BYTES_PER_S = 2e-6, 40e9


def one_switch(vertices: int, ranks: int = 0) -> Wires:
    """A non-blocking switch: vertex v has port v out and port v + vertices in; ports of in-switch reducers (those
    after `ranks`) never limit."""
    capacity = np.full(2 * vertices, PORT_BYTES_PER_S)
    if ranks:
        capacity.reshape(2, vertices)[:, ranks:] = 1e18

    def router(sources: np.ndarray, destinations: np.ndarray, _capacity: np.ndarray):
        return paths_of([[int(s), vertices + int(d)] for s, d in zip(sources, destinations, strict=True)])

    return Wires(capacity, np.full(2 * vertices, ALPHA_S / 2), router)


BALANCED: list[tuple[Kind, str]] = [
    ("all_reduce", "ring"),
    ("all_reduce", "one_shot"),
    ("all_reduce", "two_shot"),
    ("all_reduce", "halving_doubling"),
    ("reduce_scatter", "ring"),
    ("reduce_scatter", "direct"),
    ("all_gather", "pat"),
    ("all_to_all", "pairwise"),
]


@pytest.mark.parametrize(("kind", "algorithm"), BALANCED)
@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 13), channels=st.integers(1, 3), message_bytes=st.floats(1e3, 1e10))
def test_alone_flows_take_the_time_of_the_closed_form(
    kind: Kind, algorithm: str, n: int, channels: int, message_bytes: float
) -> None:
    form = alpha_beta(kind, algorithm, n, channels=channels)
    due = form.rounds * ALPHA_S + message_bytes * form.port_share / PORT_BYTES_PER_S
    found = run_schedule(build(kind, algorithm, n, channels=channels), message_bytes, one_switch(n))
    assert found == pytest.approx(due, rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [pair for pair in sorted(BUILDERS) if pair[1] not in ("hierarchical", "two_level", "nvls_tree")],
)
@settings(max_examples=10, deadline=None)
@given(n=st.integers(2, 13), channels=st.integers(1, 3), pipeline=st.integers(1, 5), message_bytes=st.floats(1e3, 1e10))
def test_overlapped_flows_take_the_time_of_the_closed_form_too(
    kind: Kind, algorithm: str, n: int, channels: int, pipeline: int, message_bytes: float
) -> None:
    """Any algorithm on one switch: hops x alpha + the busiest rank's bytes / bandwidth."""
    n = 2 if kind == "send_recv" else n
    schedule = build(kind, algorithm, n, channels=channels, pipeline=pipeline)
    form = alpha_beta(kind, algorithm, n, channels=channels, pipeline=pipeline)
    due = form.hops * ALPHA_S + message_bytes * form.port_share / PORT_BYTES_PER_S
    found = run_pipelined(schedule, message_bytes, one_switch(schedule.vertices, ranks=n), tolerance=0.0)
    assert found == pytest.approx(due, rel=1e-9)


@pytest.mark.parametrize("algorithm", ["ring", "tree", "hierarchical", "nvls_tree"])
def test_overlapped_flows_over_boxes_lie_between_the_busier_of_nic_and_port_and_their_sum(algorithm: str) -> None:
    nodes, message_bytes = even_nodes(24, 8), 1e9
    form = alpha_beta("all_reduce", algorithm, 24, nodes=nodes, channels=8)
    schedule = build("all_reduce", algorithm, 24, nodes=nodes, channels=8)
    found = run_pipelined(schedule, message_bytes, wires(boxes(3), range(24)))
    port_s, nic_s = message_bytes * form.port_share / 450e9, message_bytes * form.nic_share / 50e9
    assert max(port_s, nic_s) < found < port_s + nic_s + (form.hops + form.network_hops) * 5e-6


@settings(max_examples=15, deadline=None)
@given(nodes=st.integers(2, 4), message_bytes=st.floats(1e4, 1e10))
def test_a_hierarchical_all_reduce_over_boxes_takes_the_time_of_its_closed_form(
    nodes: int, message_bytes: float
) -> None:
    """NVLink inside (450 GB/s, 1 us a hop), then NIC to leaf to NIC on each rail (50 GB/s)."""
    cluster, n = boxes(nodes), 8 * nodes
    form = alpha_beta("all_reduce", "hierarchical", n, nodes=even_nodes(n, 8))
    over = wires(cluster, range(n))
    rail = over.router(np.array([0]), np.array([8]), over.capacity_bytes_per_s)
    network_alpha_s = float(rail.sums(over.latency_s)[0])
    due = form.hops * 1e-6 + message_bytes * form.port_share / 450e9
    due += form.network_hops * network_alpha_s + message_bytes * form.nic_share / 50e9
    found = run_phases(phases("all_reduce", "hierarchical", n, nodes=even_nodes(n, 8)), message_bytes, over)
    assert found == pytest.approx(due, rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("all_reduce", "nvls"), ("all_gather", "nvls"), ("all_reduce", "tree")]
)
def test_pipelines_as_flows_lie_between_the_busiest_port_and_no_overlap(kind: Kind, algorithm: str) -> None:
    cluster, message_bytes = boxes(1), 1e9
    schedule = build(kind, algorithm, 8, pipeline=16)
    form = alpha_beta(kind, algorithm, 8, pipeline=16)
    found = run_schedule(schedule, message_bytes, wires(cluster, range(8)))
    least_s = message_bytes * form.port_share / 450e9
    assert least_s < found < 2.5 * least_s
    assert found > least_s + form.hops * 0.5e-6


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(1.1, 5))
def test_time_is_monotone_in_bytes_and_a_permuted_group_permutes_the_result(seed: int, factor: float) -> None:
    generator = np.random.default_rng(seed)
    bytes_ = generator.gamma(1.5, 1e6, (12, 12))
    members = generator.permutation(16)[:12]
    over = wires(boxes(2), members)
    usual = run_matrix(bytes_, over, tolerance=0.0)
    assert run_matrix(bytes_ * factor, over, tolerance=0.0).max() >= usual.max()
    order = generator.permutation(12)
    moved = run_matrix(bytes_[np.ix_(order, order)], wires(boxes(2), members[order]), tolerance=0.0)
    np.testing.assert_allclose(moved, usual[np.ix_(order, order)], rtol=1e-9)


def test_an_all_to_all_over_two_nodes_is_bound_by_the_nics() -> None:
    """A matrix that is even takes what n - g of n parts take through one NIC."""
    bytes_ = np.full((16, 16), 1e6)
    found = run_matrix(bytes_, wires(boxes(2), range(16)))
    assert found.max() == pytest.approx(8e6 / 50e9, rel=0.05)
    assert (np.diag(found) == 0).all()


def test_two_jobs_on_one_nic_take_turns_and_strangers_do_not_meet() -> None:
    cluster = boxes(2)
    send = phases_of(build("send_recv", "direct", 2))
    alone = Job(send, 1e9, wires(cluster, (0, 8)))
    shared = [alone, Job(send, 1e9, wires(cluster, (0, 8)))]
    apart = [alone, Job(send, 1e9, wires(cluster, (1, 9)))]
    (one,) = run_jobs([alone])
    assert one == pytest.approx(1e9 / 50e9, rel=1e-3)
    np.testing.assert_allclose(run_jobs(shared), 2 * one, rtol=1e-3)
    np.testing.assert_allclose(run_jobs(apart), one, rtol=1e-9)


def test_jobs_that_overlap_in_part_slow_each_other_in_part() -> None:
    cluster = boxes(2)
    send = phases_of(build("send_recv", "direct", 2))
    over = wires(cluster, (0, 8))
    first, second = run_jobs([Job(send, 1e9, over), Job(send, 1e9, over, start_s=0.01)])
    assert first == pytest.approx(0.03, rel=1e-2)
    assert second == pytest.approx(0.04, rel=1e-2)


@pytest.mark.parametrize(("kind", "algorithm"), BALANCED)
def test_a_job_alone_takes_as_long_as_its_schedule(kind: Kind, algorithm: str) -> None:
    over = wires(boxes(1), range(8))
    schedule = build(kind, algorithm, 8)
    (found,) = run_jobs([Job(phases_of(schedule), 1e8, over, start_s=1.0)])
    assert found - 1.0 == pytest.approx(run_schedule(schedule, 1e8, over, tolerance=0.0), rel=1e-6)


@pytest.mark.parametrize("algorithm", ["ring", "hierarchical", "tree", "nvls_tree"])
def test_bytes_on_links_are_those_of_the_closed_form(algorithm: str) -> None:
    """Busiest NIC port and busiest NVLink port of three boxes, channels and pieces included."""
    n, nodes = 24, even_nodes(24, 8)
    cluster, form = boxes(3), alpha_beta("all_reduce", algorithm, 24, nodes=nodes, channels=3)
    over, moved = wires(cluster, range(n)), np.zeros(cluster.links)
    for phase in phases("all_reduce", algorithm, n, nodes=nodes, channels=3):
        paths = over.router(phase.sources, phase.destinations, over.capacity_bytes_per_s)
        np.add.at(moved, paths.links, np.repeat(phase.shares * phase.repeats, paths.lengths()))
    assert moved[cluster.link_kind == LINK_KINDS.index("nic")].max() == pytest.approx(form.nic_share)
    assert moved[cluster.link_kind == LINK_KINDS.index("nvlink")].max() == pytest.approx(form.port_share)


def test_a_trivial_group_takes_no_time() -> None:
    over = wires(boxes(1), (3,))
    assert run_schedule(build("all_reduce", "ring", 1), 1e9, over) == 0.0
    assert run_jobs([Job(phases_of(build("all_reduce", "ring", 1)), 1e9, over, start_s=2.0)]) == [2.0]
    assert run_schedule(build("all_reduce", "ring", 4), 0.0, wires(boxes(1), range(4))) == pytest.approx(6 * 1e-6)


def test_message_rate_and_overhead_bound_small_messages() -> None:
    over, schedule = wires(boxes(2), (0, 8)), build("send_recv", "direct", 2)
    plain = run_schedule(schedule, 1e6, over)
    slow = run_schedule(schedule, 1e6, over, per_message=PerMessage(5e-6, bytes=4096.0, messages_per_s=1e6))
    assert plain == pytest.approx(1e6 / 50e9, rel=0.5)
    assert slow == pytest.approx(plain - 1e6 / 50e9 + 5e-6 + 1e6 / 4.096e9)


def spine_links(nodes: int) -> tuple[Wires, np.ndarray]:
    """A plain fat tree without rails (traffic crosses spines), and its leaf-spine links that a shift of ranks uses."""
    cluster = boxes(nodes, 2, 2, 1.0, 8, 1)
    over = wires(cluster, range(cluster.gpus))
    ranks = np.arange(cluster.gpus)
    used = over.router(ranks, (ranks + cluster.gpus // 2) % cluster.gpus, over.capacity_bytes_per_s).links
    spine = cluster.link_kind == LINK_KINDS.index("network")
    return over, np.array([link for link in np.unique(used) if spine[link]])


def test_a_degraded_spine_link_slows_and_a_dead_one_is_routed_round() -> None:
    over, spine = spine_links(8)
    bytes_ = np.random.default_rng(3).gamma(1.5, 1e6, (16, 16))
    healthy = run_matrix(bytes_, over, tolerance=0.0).max()
    slow, down = (LinkChange(healthy / 3, int(spine[0]), left) for left in (2e9, 0.0))
    degraded = run_matrix(bytes_, over, changes=[slow], tolerance=0.0).max()
    dead = run_matrix(bytes_, over, changes=[down], tolerance=0.0).max()
    assert degraded > 1.1 * healthy
    assert healthy <= dead < degraded


def test_faults_during_a_repeated_phase_cost_only_the_rounds_after_them() -> None:
    over = one_switch(4)
    parts = phases("all_reduce", "ring", 4)
    healthy = run_phases(parts, 4e9, over)
    halved = [LinkChange(healthy / 2, 0, PORT_BYTES_PER_S / 2)]
    assert run_phases(parts, 4e9, over, changes=halved) == pytest.approx(1.5 * healthy, rel=1e-4)
    assert run_phases(parts, 4e9, over, changes=[LinkChange(2 * healthy, 0, 1.0)]) == healthy
    with pytest.raises(StalledError, match="link 0 is down"):
        run_phases(parts, 4e9, over, changes=[LinkChange(healthy / 2, 0, 0.0)])


def test_a_slow_nic_slows_only_its_own() -> None:
    cluster = boxes(2)
    over = wires(cluster, range(16))
    pair = over.router(np.array([0]), np.array([8]), over.capacity_bytes_per_s)
    nic = next(int(link) for link in pair.links if cluster.link_kind[link] == LINK_KINDS.index("nic"))
    bytes_ = np.zeros((16, 16))
    bytes_[0, 8] = bytes_[1, 9] = 1e9
    found = run_matrix(bytes_, over, changes=[LinkChange(0.0, nic, 10e9)])
    assert found[0, 8] == pytest.approx(0.1, rel=1e-3)
    assert found[1, 9] == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize("policy", ["default", "ecmp", "rail_aligned", "adaptive"])
def test_every_policy_delivers_and_links_join_up(policy: Policy) -> None:
    cluster = boxes(4, 4, 2, 1.0, 8, 4)
    over = wires(cluster, range(16), policy)
    sources, destinations = np.nonzero(~np.eye(16, dtype=bool))
    paths = over.router(sources, destinations, over.capacity_bytes_per_s)
    for flow, (source, destination) in enumerate(zip(sources, destinations, strict=True)):
        path = paths.path(flow)
        assert cluster.link_source[path[0]] == source
        assert cluster.link_destination[path[-1]] == destination
        np.testing.assert_array_equal(cluster.link_destination[path[:-1]], cluster.link_source[path[1:]])


def test_adaptive_routing_beats_a_hash_that_collides() -> None:
    cluster = boxes(8, 2, 2, 1.0, 8, 1)
    bytes_ = np.zeros((16, 16))
    bytes_[np.arange(16), (np.arange(16) + 8) % 16] = 1e9
    hashed = max(run_matrix(bytes_, wires(cluster, range(16), "ecmp", salt)).max() for salt in range(4))
    adaptive = run_matrix(bytes_, wires(cluster, range(16), "adaptive")).max()
    assert adaptive < hashed
    assert adaptive >= 1e9 / 50e9


def test_least_loaded_spreads_evenly_over_equal_links() -> None:
    options = [paths_of([[k]] * 24) for k in range(4)]
    choice = least_loaded(np.full(4, 10.0), options, np.ones(24))
    assert np.bincount(choice).tolist() == [6, 6, 6, 6]
    uneven = least_loaded(np.array([30.0, 10.0]), [paths_of([[k]] * 24) for k in range(2)], np.ones(24))
    assert np.bincount(uneven).tolist() == [18, 6]


def test_what_no_network_can_do_is_refused() -> None:
    bare = boxes(2, 1)
    with pytest.raises(TopologyError, match="no NVSwitch"):
        run_schedule(build("all_reduce", "nvls_tree", 2, nodes=((0,), (1,))), 1e6, wires(bare, (0, 1)))
    with pytest.raises(TopologyError, match="different nodes"):
        cluster_router(boxes(2), (0, 8))(np.array([0]), np.array([3]), boxes(2).link_bandwidth_bytes_per_s)
    with pytest.raises(ScheduleError, match="not negative"):
        run_schedule(build("all_reduce", "ring", 4), -1.0, wires(boxes(1), range(4)))
