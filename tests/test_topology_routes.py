"""Routes: every GPU reaches every other, over links that join, by its own NIC; many at once as one at a time."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from topology_cases import check_route, clusters, node_specs

from simulator.errors import TopologyError
from simulator.scenario.topology_file import list_topologies, load_topology
from simulator.topology.cluster import Cluster, build_cluster
from simulator.topology.crossing import Crossing
from simulator.topology.routes import RoutePolicy, link_class, route, route_avoiding, routes
from simulator.topology.spec import VERTEX_KINDS, ClusterSpec

POLICIES = st.builds(
    RoutePolicy,
    cross_rail=st.sampled_from(["own", "pxn"]),
    spread=st.sampled_from(["auto", "destination", "hash"]),
    salt=st.integers(0, 5),
)


def all_pairs(cluster: Cluster) -> tuple[np.ndarray, np.ndarray]:
    source, destination = np.divmod(np.arange(cluster.gpus**2), cluster.gpus)
    return source, destination


def names(cluster: Cluster, links: tuple[int, ...]) -> list[str]:
    return [cluster.vertex_name(int(cluster.link_destination[link])) for link in links]


@settings(max_examples=30, deadline=None)
@given(clusters(most_nodes=6), POLICIES)
def test_every_gpu_reaches_every_other(cluster: Cluster, policy: RoutePolicy) -> None:
    source, destination = all_pairs(cluster)
    table = routes(cluster, source, destination, policy)
    assert len(table) == cluster.gpus**2
    for pair in range(0, len(table), 1 + len(table) // 400):
        s, d = int(source[pair]), int(destination[pair])
        check_route(cluster, s, d, table.row(pair))
        assert route(cluster, s, d, policy) == table.row(pair)


@settings(max_examples=30, deadline=None)
@given(node_specs())
def test_inside_a_node_too(node) -> None:
    cluster = build_cluster(ClusterSpec("one", node))
    source, destination = all_pairs(cluster)
    table = routes(cluster, source, destination)
    for pair in range(len(table)):
        check_route(cluster, int(source[pair]), int(destination[pair]), table.row(pair))


@settings(max_examples=25, deadline=None)
@given(clusters(), POLICIES, st.data())
def test_between_nodes_one_nic_each_and_no_detour(cluster: Cluster, policy: RoutePolicy, data: st.DataObject) -> None:
    s, d = data.draw(st.integers(0, cluster.gpus - 1)), data.draw(st.integers(0, cluster.gpus - 1))
    links = route(cluster, s, d, policy)
    kinds = [VERTEX_KINDS[cluster.vertex_kind[cluster.link_destination[link]]] for link in links]
    across = cluster.gpu_node[s] != cluster.gpu_node[d]
    assert kinds.count("nic") == (2 if across else 0)
    assert kinds.count("leaf") in ((1, 2) if across else (0,))
    # up at most once, down at most once: leaf (spine (core spine)? leaf)?
    fabric = [kind for kind in kinds if kind in ("leaf", "spine", "core")]
    assert fabric in ([], ["leaf"], ["leaf", "spine", "leaf"], ["leaf", "spine", "core", "spine", "leaf"])


@settings(max_examples=20, deadline=None)
@given(clusters())
def test_the_graph_says_what_the_arrays_say(cluster: Cluster) -> None:
    graph = cluster.graph
    assert graph.number_of_nodes() == cluster.vertices
    assert graph.number_of_edges() == cluster.links
    assert nx.is_strongly_connected(graph)
    links = route(cluster, 0, cluster.gpus - 1)
    ends = [(int(cluster.link_source[link]), int(cluster.link_destination[link])) for link in links]
    along = [graph.edges[pair] for pair in ends]
    assert [edge["link"] for edge in along] == list(links)
    narrowest = min(edge["bandwidth_bytes_per_s"] for edge in along)
    assert narrowest == cluster.link_bandwidth_bytes_per_s[list(links)].min()
    assert all(graph.has_edge(b, a) for a, b in graph.edges)


def test_a_planted_slip_in_the_leaf_arithmetic_breaks_the_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = load_topology("dgx_h100", 40)
    check_route(cluster, 0, 39 * 8, routes(cluster, [0], [39 * 8]).row(0))
    monkeypatch.setattr(Crossing, "_slot", staticmethod(lambda node, nic, shape: node + 1 + nic // shape.rails))
    with pytest.raises(AssertionError):
        check_route(cluster, 31 * 8, 39 * 8, routes(cluster, [31 * 8], [39 * 8]).row(0))


def test_rails_and_pxn_on_a_dgx() -> None:
    cluster = load_topology("dgx_h100", 40)
    assert names(cluster, route(cluster, 0, 3)) == ["node0.nvswitch", "node0.gpu3"]
    same_rail = names(cluster, route(cluster, 3, 8 + 3))
    assert same_rail == ["node0.pcie1", "node0.nic3", "leaf3", "node1.nic3", "node1.pcie1", "node1.gpu3"]
    other = [link_class(cluster, link) for link in route(cluster, 3, 8 + 4)]
    assert other == ["PCIe", "PCIe", "NIC", "leaf-spine", "leaf-spine", "NIC", "PCIe", "PCIe"]
    pxn = names(cluster, route(cluster, 3, 8 + 4, RoutePolicy(cross_rail="pxn")))
    assert pxn[:5] == ["node0.nvswitch", "node0.gpu4", "node0.pcie2", "node0.nic4", "leaf4"]
    beyond_the_leaf = [link_class(cluster, link) for link in route(cluster, 3, 32 * 8 + 3)]
    assert beyond_the_leaf.count("leaf-spine") == 2


def test_three_tiers_cross_cores_between_pods_only() -> None:
    cluster = load_topology("dgx_h100", 384)  # pods of 4 x 32 nodes
    near, far = route(cluster, 0, 127 * 8), route(cluster, 0, 128 * 8)
    assert "spine-core" not in {link_class(cluster, link) for link in near}
    assert [link_class(cluster, link) for link in far].count("spine-core") == 2
    check_route(cluster, 0, 128 * 8, far)


def load_spread(cluster: Cluster, policy: RoutePolicy, shift: int) -> np.ndarray:
    """Flows on each leaf-to-spine link when every GPU sends to the one `shift` nodes on."""
    source = np.arange(cluster.gpus)
    table = routes(cluster, source, (source + shift * 8) % cluster.gpus, policy)
    flows = np.bincount(table.links, minlength=cluster.links)
    kinds = cluster.vertex_kind
    leaf, spine = VERTEX_KINDS.index("leaf"), VERTEX_KINDS.index("spine")
    return flows[(kinds[cluster.link_source] == leaf) & (kinds[cluster.link_destination] == spine)]


def test_static_tables_spread_a_shift_evenly_and_hashing_does_not() -> None:
    cluster = load_topology("dgx_h100", 128)
    even = load_spread(cluster, RoutePolicy(spread="destination"), shift=32)
    assert even.min() == even.max() > 0
    hashed = load_spread(cluster, RoutePolicy(spread="hash"), shift=32)
    assert hashed.sum() == even.sum()
    assert hashed.max() > hashed.mean() * 1.5  # collisions, as ECMP has


def test_routes_around_a_dead_link() -> None:
    cluster = load_topology("dgx_h100", 40)
    s, d = 3, 35 * 8 + 3
    usual = route(cluster, s, d)
    for dead in usual:
        way = route_avoiding(cluster, s, d, [dead])
        assert dead not in way
        check_route(cluster, s, d, way)
    assert route_avoiding(cluster, s, d, [route(cluster, 0, 1)[0]]) == usual


def test_no_way_round_is_told() -> None:
    cluster = load_topology("l40s_pcie")
    with pytest.raises(TopologyError, match="every route uses a link that is down"):
        route_avoiding(cluster, 0, 5, [route(cluster, 0, 5)[0]])


def test_unknown_gpus_are_refused() -> None:
    cluster = load_topology("dgx_h100", 2)
    with pytest.raises(TopologyError, match="GPUs 0 to 15"):
        route(cluster, 0, 16)
    with pytest.raises(TopologyError, match="GPU -1"):
        routes(cluster, [0, -1], [1, 2])


@pytest.mark.parametrize("name", list_topologies())
def test_shipped_topologies_route_everything(name: str) -> None:
    cluster = load_topology(name, 3)
    rng = np.random.default_rng(7)
    source, destination = rng.integers(0, cluster.gpus, (2, 300))
    for policy in (RoutePolicy(), RoutePolicy(cross_rail="pxn")):
        table = routes(cluster, source, destination, policy)
        for pair, (s, d) in enumerate(zip(source.tolist(), destination.tolist(), strict=True)):
            check_route(cluster, s, d, table.row(pair))


def test_sixteen_thousand_gpus() -> None:
    cluster = load_topology("dgx_h100", 2048)
    assert cluster.gpus == 16384
    rng = np.random.default_rng(3)
    source, destination = rng.integers(0, cluster.gpus, (2, 200))
    table = routes(cluster, source, destination)
    for pair, (s, d) in enumerate(zip(source.tolist(), destination.tolist(), strict=True)):
        check_route(cluster, s, d, table.row(pair))
