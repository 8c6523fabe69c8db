"""Clusters: numbering, counts, port budgets, and what is refused."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from topology_cases import check_route, clusters

from simulator.errors import TopologyError
from simulator.scenario.topology_file import load_topology, read_topology
from simulator.topology.cluster import Cluster, build_cluster
from simulator.topology.routes import route
from simulator.topology.spec import (
    LINK_KINDS,
    VERTEX_KINDS,
    ClusterSpec,
    Fabric,
    Graph,
    LinkSpec,
    Nics,
    NodeSpec,
    NvSwitch,
    Pcie,
    VertexSpec,
    Wire,
)

WIRE = Wire(50e9, 1e-6)
PCIE = Pcie(2, 1, WIRE, WIRE, WIRE)


@settings(max_examples=40, deadline=None)
@given(clusters())
def test_numbering_is_a_bijection(cluster: Cluster) -> None:
    places = set(zip(cluster.gpu_node.tolist(), cluster.gpu_local.tolist(), strict=True))
    per_node = cluster.gpus // cluster.nodes
    assert places == {(n, g) for n in range(cluster.nodes) for g in range(per_node)}
    for node in range(cluster.nodes):
        assert [cluster.gpu_node[gpu] for gpu in cluster.gpus_of_node(node)] == [node] * per_node
    assert {cluster.vertex_kind[gpu] for gpu in range(cluster.gpus)} == {0}
    names = [cluster.vertex_name(vertex) for vertex in range(cluster.vertices)]
    assert len(set(names)) == cluster.vertices
    ends = set(zip(cluster.link_source.tolist(), cluster.link_destination.tolist(), strict=True))
    assert len(ends) == cluster.links


@settings(max_examples=60, deadline=None)
@given(clusters(most_nodes=40))
def test_no_switch_has_more_cables_than_ports(cluster: Cluster) -> None:
    fabric, shape = cluster.spec.fabric, cluster.shape
    assert fabric is not None
    assert shape is not None
    source, network = cluster.link_source, cluster.link_kind == LINK_KINDS.index("network")
    cables = np.where(network, np.rint(cluster.link_bandwidth_bytes_per_s / fabric.hop.bandwidth_bytes_per_s), 1.0)
    ports = np.bincount(source, weights=cables, minlength=cluster.vertices)
    for kind in ("leaf", "spine", "core"):
        switches = cluster.vertex_kind == VERTEX_KINDS.index(kind)
        assert ports[switches].max(initial=0) <= fabric.switch_ports
    # Leaves keep the stated ratio, rounded in favour of the uplinks.
    leaves = np.flatnonzero(cluster.vertex_kind == VERTEX_KINDS.index("leaf"))
    up = np.bincount(source[network], weights=cables[network], minlength=cluster.vertices)[leaves]
    down = np.bincount(source[~network], minlength=cluster.vertices)[leaves]
    if shape.spines_per_pod:
        assert (down <= np.maximum(up * fabric.oversubscription, 1)).all()
        assert (up <= math.ceil(shape.ports_down / fabric.oversubscription)).all()
    else:
        assert up.sum() == 0


def test_counts_of_a_superpod() -> None:
    """One DGX SuperPOD scalable unit has 8 leaves, four have 32 leaves and 16 spines (NVIDIA, 2023-11)."""
    for nodes, leaves, spines, cores in ((32, 8, 4, 0), (127, 32, 16, 0), (2048, 512, 512, 256)):
        shape = load_topology("dgx_h100", nodes).shape
        assert shape is not None
        assert (shape.leaves, shape.spines, shape.cores) == (leaves, spines, cores)


def test_the_rack_is_the_node_of_an_nvl72() -> None:
    cluster = load_topology("gb200_nvl72", 3)
    assert (cluster.nodes, cluster.gpus) == (3, 216)
    assert cluster.gpus_of_node(2) == tuple(range(144, 216))
    assert len(set(cluster.gpu_socket[:72].tolist())) == 36


def test_graph_of_two_nodes_is_taken_as_it_is() -> None:
    vertices = [VertexSpec(f"g{n}{i}", "gpu", "H100", node=n) for n in (0, 1) for i in range(3)]
    vertices += [VertexSpec(f"n{n}", "nic", node=n) for n in (0, 1)] + [VertexSpec("leaf", "leaf")]
    links = [LinkSpec(f"g{n}{i}", f"n{n}", "pcie", 63e9, 1e-6) for n in (0, 1) for i in range(3)]
    links += [LinkSpec(f"n{n}", "leaf", "nic", 50e9, 1e-6) for n in (0, 1)]
    spec = ClusterSpec("pair", Graph(tuple(vertices), tuple(links)), network="roce")
    cluster = build_cluster(spec)
    assert (cluster.nodes, cluster.gpus, cluster.network) == (2, 6, "roce")
    assert cluster.gpu_local.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(TopologyError, match="lists 2 nodes"):
        build_cluster(spec, 3)


def graph(vertices: str = "a b", **changes: object) -> ClusterSpec:
    link = {
        "source": "a",
        "destination": "b",
        "kind": "pcie",
        "bandwidth_bytes_per_s": 1e9,
        "latency_s": 1e-6,
    } | changes
    listed = tuple(VertexSpec(name, "gpu", "H100") for name in vertices.split())
    return ClusterSpec("g", Graph(listed, (LinkSpec(**link),)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (graph(bandwidth_bytes_per_s=0.0), "positive and finite"),
        (graph(bandwidth_bytes_per_s=-2e9), "positive and finite"),
        (graph(bandwidth_bytes_per_s=math.nan), "positive and finite"),
        (graph(bandwidth_bytes_per_s=math.inf), "positive and finite"),
        (graph(latency_s=-1e-6), "zero or more"),
        (graph(latency_s=math.nan), "zero or more"),
        (graph(destination="c"), "no vertex of this topology"),
        (graph(destination="a"), "two different vertices"),
        (graph(kind="string"), "no kind of link"),
        (graph("a b b"), "names two vertices"),
        (graph("a b c"), "cannot be reached"),
        (graph(duplex=False), "b: cannot reach a; make its links duplex"),
        (graph(source="b", destination="a", duplex=False), "b: cannot be reached from a"),
        (ClusterSpec("g", Graph((VertexSpec("a", "gpu", "H100", node=1),), ())), "without gaps"),
        (ClusterSpec("g", Graph((), ())), "at least one GPU"),
        (ClusterSpec("g", Graph((VertexSpec("a", "gpu", "H1000"),), ())), "no accelerator"),
        (
            ClusterSpec(
                "g",
                Graph(
                    (VertexSpec("a", "gpu", "H100"), VertexSpec("b", "gpu", "H100")),
                    (LinkSpec("a", "b", "pcie", 1e9, 0.0), LinkSpec("b", "a", "pcie", 2e9, 0.0)),
                ),
            ),
            "listed twice",
        ),
    ],
)
def test_malformed_graphs(spec: ClusterSpec, rule: str) -> None:
    with pytest.raises(TopologyError, match=rule):
        build_cluster(spec)


def node(**changes: object) -> NodeSpec:
    facts = {"gpu": "H100", "gpus": 8, "scale_up": NvSwitch(WIRE, 4, True), "pcie": PCIE, "nics": Nics(8, WIRE, WIRE)}
    return NodeSpec(**(facts | changes))  # type: ignore[arg-type]


def fabric(**changes: object) -> Fabric:
    facts = {"kind": "roce", "rails": 8, "tiers": 2, "switch_ports": 32, "oversubscription": 1.0, "hop": WIRE}
    return Fabric(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "nodes", "rule"),
    [
        (ClusterSpec("n", node(gpus=7), fabric()), 2, "does not divide"),
        (ClusterSpec("n", node(gpus=0), fabric()), 2, "at least one GPU"),
        (ClusterSpec("n", node(trays=3), fabric()), 2, "does not divide"),
        (ClusterSpec("n", node(pcie=Pcie(0, 1, WIRE, WIRE, WIRE)), fabric()), 2, "at least one socket"),
        (ClusterSpec("n", node(nics=Nics(3, WIRE, WIRE)), fabric()), 2, "do not deal out evenly"),
        (ClusterSpec("n", node(nics=Nics(8, WIRE, Wire(0.0, 0.0))), fabric()), 2, "positive and finite"),
        (ClusterSpec("n", node(scale_up=NvSwitch(Wire(math.nan, 0.0), 4, True)), fabric()), 2, "positive and finite"),
        (ClusterSpec("n", node(), fabric(rails=3)), 2, "does not divide the 8 NICs"),
        (ClusterSpec("n", node(), fabric(switch_ports=8)), 2, "two ports for each"),
        (ClusterSpec("n", node(), fabric(oversubscription=0.0)), 2, "ports down over its ports up"),
        (ClusterSpec("n", node(), fabric(hop=Wire(-1.0, 0.0))), 2, "positive and finite"),
        (ClusterSpec("n", node(), fabric()), 65, "hold at most 64 nodes"),
        (ClusterSpec("n", node()), 2, "nothing joins the nodes"),
        (ClusterSpec("n", node(nics=None), fabric()), 2, "nothing joins the nodes"),
        (ClusterSpec("n", node(), fabric()), 0, "at least one node"),
    ],
)
def test_malformed_clusters(spec: ClusterSpec, nodes: int, rule: str) -> None:
    with pytest.raises(TopologyError, match=rule):
        build_cluster(spec, nodes)


def test_two_tiers_hold_what_the_error_says() -> None:
    spec = ClusterSpec("n", node(), fabric())
    assert build_cluster(spec, 64).gpus == 512
    assert build_cluster(ClusterSpec("n", node(), fabric(tiers=3)), 65).gpus == 520


@given(st.sampled_from(["dgx_h100", "mi300x", "gb200_nvl72"]), st.integers(1, 7))
@settings(max_examples=10, deadline=None)
def test_every_node_has_its_share(name: str, nodes: int) -> None:
    one, many = build_cluster(read_topology(name), 1), build_cluster(read_topology(name), nodes)
    for kind in ("gpu", "nvswitch", "pcie_switch", "cpu", "nic"):
        index = VERTEX_KINDS.index(kind)  # type: ignore[arg-type]
        assert (many.vertex_kind == index).sum() == nodes * (one.vertex_kind == index).sum()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_connected_graph_is_routed_and_any_torn_one_refused(data: st.DataObject) -> None:
    """Random graphs of GPUs over several nodes: build_cluster accepts exactly the strongly connected ones."""
    size = data.draw(st.integers(2, 7))
    names = [f"g{i}" for i in range(size)]
    pairs = [(a, b) for a in range(size) for b in range(a + 1, size)]
    edges = data.draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1))
    duplex = data.draw(st.lists(st.booleans(), min_size=len(edges), max_size=len(edges)))
    links = tuple(
        LinkSpec(names[a], names[b], "network", 1e9 * (1 + a + 7 * b), 1e-6, both)
        for (a, b), both in zip(edges, duplex, strict=True)
    )
    spec = ClusterSpec("any", Graph(tuple(VertexSpec(n, "gpu", "A100", node=i) for i, n in enumerate(names)), links))
    truth = nx.DiGraph()
    truth.add_nodes_from(range(size))
    truth.add_edges_from(edges)
    truth.add_edges_from((b, a) for (a, b), both in zip(edges, duplex, strict=True) if both)
    if not nx.is_strongly_connected(truth):
        with pytest.raises(TopologyError, match="reach"):
            build_cluster(spec)
        return
    cluster = build_cluster(spec)
    for a in range(size):
        for b in range(size):
            check_route(cluster, a, b, route(cluster, a, b))
            assert len(route(cluster, a, b)) == nx.shortest_path_length(truth, a, b)
