"""Facts of groups: what the shipped topologies say, and properties that hold for any."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from topology_cases import clusters

from simulator.errors import TopologyError
from simulator.scenario.topology_file import load_topology, read_topology
from simulator.topology.cluster import Cluster, build_cluster
from simulator.topology.describe import describe
from simulator.topology.draw import draw
from simulator.topology.facts import group_links
from simulator.topology.routes import routes
from simulator.topology.spec import ClusterSpec, Graph, LinkSpec, VertexSpec

GB = 1e9


def test_one_dgx() -> None:
    links = group_links(load_topology("dgx_h100", 4), range(8))
    assert (links.ranks, links.nodes, links.ranks_per_node, links.sockets) == (8, 1, 8, 2)
    assert (links.scale_up, links.multicast) == ("nvswitch", True)
    assert links.scale_up_bytes_per_s == links.pair_bytes_per_s == 450 * GB
    assert links.scale_up_latency_s == pytest.approx(0.6e-6)
    assert (links.network, links.nic_bytes_per_s, links.network_latency_s) == ("none", 0.0, 0.0)


def test_uneven_group_over_nodes() -> None:
    links = group_links(load_topology("dgx_h100", 4), [0, 1, 2, 8, 9, 25])
    assert (links.ranks, links.nodes, links.ranks_per_node, links.sockets) == (6, 3, 3, 1)
    assert (links.network, links.nic_bytes_per_s) == ("infiniband", 50 * GB)
    assert links.network_latency_s == pytest.approx(2.7e-6)  # GPU, switch, NIC, leaf and back down


def test_mesh_bandwidth_grows_with_the_group_and_a_pair_keeps_its_link() -> None:
    cluster = load_topology("mi300x", 2)
    for ranks in (2, 3, 5, 8):
        links = group_links(cluster, range(ranks))
        assert links.scale_up == "xgmi_mesh"
        assert links.scale_up_bytes_per_s == pytest.approx(64 * GB * (ranks - 1))
        assert links.pair_bytes_per_s == 64 * GB
        assert not links.multicast


def test_pcie_box_slows_across_sockets_and_shares_nics() -> None:
    cluster = load_topology("l40s_pcie", 2)
    near, far = group_links(cluster, [0, 1, 2, 3]), group_links(cluster, [0, 4])
    assert (near.scale_up, near.sockets, near.pair_bytes_per_s) == ("pcie", 1, 31.5 * GB)
    assert (far.scale_up, far.sockets, far.pair_bytes_per_s) == ("pcie", 2, 16 * GB)
    assert group_links(cluster, [0, 8]).nic_bytes_per_s == 25 * GB
    assert group_links(cluster, [0, 1, 8, 9]).nic_bytes_per_s == 12.5 * GB  # two GPUs on each NIC


def test_rack_is_one_node() -> None:
    cluster = load_topology("gb200_nvl72", 2)
    links = group_links(cluster, range(72))
    assert (links.nodes, links.ranks_per_node, links.pair_bytes_per_s) == (1, 72, 900 * GB)
    assert group_links(cluster, range(36, 108)).nodes == 2


def test_oversubscription_counts_only_where_rails_leave_their_leaf() -> None:
    spec = read_topology("dgx_h100")
    assert spec.fabric is not None
    squeezed = dataclasses.replace(spec, fabric=dataclasses.replace(spec.fabric, oversubscription=2.0))
    cluster = build_cluster(squeezed, 100)  # 42 nodes a leaf
    assert group_links(cluster, range(40 * 8)).oversubscription == 1.0
    assert group_links(cluster, range(50 * 8)).oversubscription == 2.0


def test_lone_members_know_their_node() -> None:
    links = group_links(load_topology("dgx_a100", 3), [2, 10, 18])
    assert (links.nodes, links.ranks_per_node, links.scale_up, links.multicast) == (3, 1, "nvswitch", False)
    assert links.nic_bytes_per_s == 25 * GB


def test_bad_groups() -> None:
    cluster = load_topology("dgx_h100")
    for gpus, rule in (([], "at least one GPU"), ([0, 0], "in the group twice"), ([0, 8], "GPUs 0 to 7")):
        with pytest.raises(TopologyError, match=rule):
            group_links(cluster, gpus)
    mixed = Graph(
        (VertexSpec("a", "gpu", "H100"), VertexSpec("b", "gpu", "A100")), (LinkSpec("a", "b", "pcie", 31e9, 1e-6),)
    )
    with pytest.raises(TopologyError, match="GPUs of one model"):
        group_links(build_cluster(ClusterSpec("mixed", mixed)), [0, 1])


def test_explicit_cluster_counts_its_own_uplinks() -> None:
    vertices = [VertexSpec(f"g{n}", "gpu", "H100", node=n) for n in range(4)]
    vertices += [VertexSpec(f"n{n}", "nic", node=n) for n in range(4)]
    vertices += [VertexSpec("leaf0", "leaf"), VertexSpec("leaf1", "leaf"), VertexSpec("spine", "spine")]
    links = [LinkSpec(f"g{n}", f"n{n}", "pcie", 63e9, 0.5e-6) for n in range(4)]
    links += [LinkSpec(f"n{n}", f"leaf{n // 2}", "nic", 50e9, 0.35e-6) for n in range(4)]
    links += [LinkSpec(f"leaf{i}", "spine", "network", 40e9, 0.3e-6) for i in (0, 1)]
    cluster = build_cluster(ClusterSpec("tree", Graph(tuple(vertices), tuple(links)), network="roce"))
    links_of = group_links(cluster, range(4))
    assert links_of.oversubscription == pytest.approx(100 / 40)
    assert (links_of.network, links_of.nic_bytes_per_s) == ("roce", 50e9)
    assert links_of.network_latency_s == pytest.approx(2 * (0.5 + 0.35 + 0.3) * 1e-6)


@settings(max_examples=40, deadline=None)
@given(clusters(most_nodes=5), st.data())
def test_facts_agree_with_routes(cluster: Cluster, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, min(7, cluster.gpus)))
    group = data.draw(st.permutations(range(cluster.gpus)))[:size]
    links = group_links(cluster, group)
    nodes, counts = np.unique(cluster.gpu_node[group], return_counts=True)
    assert (links.ranks, links.nodes, links.ranks_per_node) == (size, len(nodes), counts.max())
    pairs = [(a, b) for a in group for b in group if a != b and cluster.gpu_node[a] == cluster.gpu_node[b]]
    if counts.max() > 1:
        fullest = {n for n, c in zip(nodes, counts, strict=True) if c == counts.max()}
        inside = [(a, b) for a, b in pairs if cluster.gpu_node[a] in fullest]
        table = routes(cluster, *np.array(inside).T)
        narrowest = min(cluster.link_bandwidth_bytes_per_s[list(table.row(i))].min() for i in range(len(table)))
        assert links.pair_bytes_per_s == narrowest
        assert links.scale_up_bytes_per_s >= links.pair_bytes_per_s
    assert (links.network == "none") == (len(nodes) == 1)
    assert (links.nic_bytes_per_s > 0) == (len(nodes) > 1)
    assert group_links(cluster, sorted(group)).pair_bytes_per_s == links.pair_bytes_per_s


@settings(max_examples=20, deadline=None)
@given(clusters(most_nodes=6), st.integers(1, 4))
def test_drawings_hold_what_they_link(cluster: Cluster, most: int) -> None:
    drawing = draw(cluster, most)
    drawn = {vertex.vertex for vertex in drawing.vertices}
    assert len(drawn) == len(drawing.vertices)
    assert all(link.source in drawn and link.destination in drawn for link in drawing.links)
    places = {(vertex.x, vertex.y) for vertex in drawing.vertices}
    assert len(places) == len(drawing.vertices)
    assert drawing.nodes_left_out == max(0, cluster.nodes - most)
    gpus = sum(vertex.kind == "gpu" for vertex in drawing.vertices)
    assert gpus == min(most, cluster.nodes) * cluster.gpus // cluster.nodes


def test_description_counts_links_and_tells_routes() -> None:
    text = describe(load_topology("dgx_h100", 40))
    assert "dgx_h100: 320 x H100-SXM in 40 node(s)" in text
    nvlink = next(line for line in text.splitlines() if line.startswith("NVLink"))
    assert nvlink.split() == ["NVLink", "320", "450", "GB/s", "300", "ns"]
    assert "over NVLink to the rail first" in text
    assert "over NVLink to the rail first" not in describe(load_topology("l40s_pcie", 2))
