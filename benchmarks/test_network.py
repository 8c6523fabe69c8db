"""Speed of the flows reading: `make bench`. Targets in each docstring."""

import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.collectives.build import build
from simulator.collectives.closed_form import alpha_beta
from simulator.collectives.phases import phases
from simulator.collectives.volume import even_nodes
from simulator.network.collective import run_matrix, run_phases
from simulator.network.fabric import Fabric
from simulator.network.incidence import paths_of
from simulator.network.routing import wires
from simulator.network.simulate import LinkChange, simulate_flows
from simulator.topology.spec import LINK_KINDS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from network_clusters import boxes


def expert_bytes(ranks: int, seed: int = 0) -> np.ndarray:
    """What routed tokens give: uneven in every pair, and a few busy receivers (seed fixed)."""
    generator = np.random.default_rng(seed)
    return generator.gamma(2.0, 1e5, (ranks, ranks)) * generator.lognormal(0.0, 0.3, ranks)


def test_uneven_all_to_all_over_144_ranks(benchmark: BenchmarkFixture) -> None:
    """20,592 flows over 18 boxes, routes included: 1 s."""
    over, bytes_ = wires(boxes(18), range(144)), expert_bytes(144)
    arrived = benchmark.pedantic(run_matrix, args=(bytes_, over), rounds=3, iterations=1)
    assert arrived.max() >= (bytes_.sum(axis=0) * 136 / 144).max() * 0.8 / 50e9
    assert benchmark.stats.stats.min < 1.0


def test_uneven_all_to_all_over_1024_ranks(benchmark: BenchmarkFixture) -> None:
    """About a million flows over 128 boxes: 30 s and 4 GB."""
    over, bytes_ = wires(boxes(128), range(1024)), expert_bytes(1024)
    benchmark.pedantic(run_matrix, args=(bytes_, over), rounds=1, iterations=1)
    assert benchmark.stats.stats.min < 30.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 4e9


@pytest.mark.parametrize("staggered", [False, True])
def test_incast_of_8192_flows(benchmark: BenchmarkFixture, staggered: bool) -> None:
    """Uneven sizes, starting at once or spread over a tenth of the time: 1 s."""
    generator = np.random.default_rng(1)
    sizes = generator.gamma(2.0, 1e6, 8192)
    starts = generator.uniform(0.0, 0.1 * sizes.sum() / 400e9, 8192) if staggered else np.zeros(8192)
    capacity, paths = np.append(np.full(8192, 50e9), 400e9), paths_of([[i, 8192] for i in range(8192)])
    finish = benchmark.pedantic(simulate_flows, args=(capacity, paths, sizes), kwargs={"start_s": starts}, rounds=3)
    assert finish.max() == pytest.approx(sizes.sum() / 400e9, rel=0.02)
    assert benchmark.stats.stats.min < 1.0


def test_hierarchical_all_reduce_over_16384_gpus_with_a_degraded_spine_link(benchmark: BenchmarkFixture) -> None:
    """2,048 boxes, three tiers, cluster and routes included: 5 s."""
    message_bytes = 1e9

    def run() -> float:
        boxes.cache_clear()
        cluster = boxes(2048, tiers=3)
        over, nodes = wires(cluster, range(16384)), even_nodes(16384, 8)
        parts = phases("all_reduce", "hierarchical", 16384, nodes=nodes)
        crossing = over.router(parts[1].sources, parts[1].destinations, over.capacity_bytes_per_s).links
        spine = crossing[cluster.link_kind[crossing] == LINK_KINDS.index("network")]
        return run_phases(parts, message_bytes, over, changes=[LinkChange(0.0, int(spine[0]), 10e9)])

    found_s = benchmark.pedantic(run, rounds=1, iterations=1)
    form = alpha_beta("all_reduce", "hierarchical", 16384, nodes=even_nodes(16384, 8))
    assert found_s > message_bytes * (form.nic_share / 50e9 + form.port_share / 450e9)
    assert benchmark.stats.stats.min < 5.0


def test_schedule_of_a_ring_over_64_ranks(benchmark: BenchmarkFixture) -> None:
    """Listing and checking nothing: what an engine pays once for each shape of group."""
    build.cache_clear()
    benchmark.pedantic(build.__wrapped__, args=("all_reduce", "ring", 64), rounds=3)


def test_incremental_fabric_with_64_flows_coming_and_going(benchmark: BenchmarkFixture) -> None:
    """A step of an event-driven engine: one flow ends, one begins, rates anew."""
    over, generator = wires(boxes(18), range(144)), np.random.default_rng(2)
    fabric = Fabric(over.capacity_bytes_per_s)

    def start(flows: int) -> None:
        ends = np.array([generator.permutation(144)[:2] for _ in range(flows)])
        fabric.add(over.router(ends[:, 0], ends[:, 1], over.capacity_bytes_per_s), generator.gamma(2.0, 1e6, flows))

    def one_event() -> None:
        start(len(fabric.advance(fabric.next_completion_s())))

    start(64)
    benchmark.pedantic(one_event, rounds=100)
