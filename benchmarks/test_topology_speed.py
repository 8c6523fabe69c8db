"""How long clusters and routes take: pytest benchmarks/test_topology_speed.py --benchmark-only."""

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.scenario.topology_file import load_topology
from simulator.topology.cluster import Cluster
from simulator.topology.facts import group_links
from simulator.topology.routes import RouteTable, routes


def test_build_16384_gpus(benchmark: BenchmarkFixture) -> None:
    def build() -> Cluster:
        cluster = load_topology("dgx_h100", 2048)
        _ = cluster.link_source, cluster.link_destination, cluster.link_bandwidth_bytes_per_s, cluster.link_latency_s
        return cluster

    assert benchmark(build).gpus == 16384


def test_networkx_graph_of_16384_gpus(benchmark: BenchmarkFixture) -> None:
    graph = benchmark.pedantic(lambda: load_topology("dgx_h100", 2048).graph, rounds=2)
    assert graph.number_of_edges() == 192512


def test_a_million_routes(benchmark: BenchmarkFixture) -> None:
    cluster = load_topology("dgx_h100", 128)
    source, destination = np.divmod(np.arange(1024 * 1024), 1024)
    apart = source != destination

    def find() -> RouteTable:
        return routes(cluster, source[apart], destination[apart])

    assert len(benchmark.pedantic(find, rounds=3)) == 1024 * 1023


def test_facts_of_a_group_of_16384(benchmark: BenchmarkFixture) -> None:
    def find() -> float:
        return group_links(load_topology("dgx_h100", 2048), range(16384)).nic_bytes_per_s

    assert benchmark.pedantic(find, rounds=3) == 50e9
