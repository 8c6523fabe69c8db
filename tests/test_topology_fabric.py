"""topograph models: the tree that the file draws, with hosts as a topology file says."""

from pathlib import Path

import pytest
from topology_cases import check_route

from simulator.errors import TopologyError
from simulator.scenario.fabric_file import import_fabric
from simulator.scenario.topology_file import dump_topology, load_topology, read_topology
from simulator.topology.cluster import build_cluster
from simulator.topology.facts import group_links
from simulator.topology.routes import link_class, route

SAMPLE = Path(__file__).parents[1].parent / "shared" / "data" / "topo" / "fabric" / "topograph_model_nvl72.yaml"
SMALL = """
switches:
  spine: {switches: [leaf-a, leaf-b]}
blocks:
- {switch: leaf-a, nodes: ["n[1-2]", n7]}
- {switch: leaf-b, nodes: ["n[11-12,15]"]}
"""


def test_real_sample() -> None:
    if not SAMPLE.is_file():
        pytest.skip("the measured data are not beside this checkout")
    cluster = build_cluster(import_fabric(SAMPLE.read_text(encoding="utf-8"), read_topology("gb200_nvl72")))
    assert (cluster.nodes, cluster.gpus) == (4, 4 * 72)
    assert [group_links(cluster, range(72 * n, 72 * n + 72)).nodes for n in range(4)] == [1] * 4
    path = route(cluster, 0, 3 * 72 + 5)  # the other spine: leaf, spine, core, spine, leaf
    check_route(cluster, 0, 3 * 72 + 5, path)
    classes = [link_class(cluster, link) for link in path]
    assert (classes.count("leaf-spine"), classes.count("spine-core"), classes.count("NIC")) == (2, 2, 2)


def test_hosts_without_a_domain_are_nodes(tmp_path: Path) -> None:
    spec = import_fabric(SMALL, read_topology("dgx_a100"), oversubscription=3.0)
    cluster = build_cluster(spec)
    assert (cluster.nodes, cluster.gpus) == (6, 48)
    links = group_links(cluster, range(48))
    assert (links.oversubscription, links.network, links.nic_bytes_per_s) == (pytest.approx(3.0), "infiniband", 25e9)
    assert not links.multicast
    check_route(cluster, 3, 44, route(cluster, 3, 44))
    dump_topology(spec, tmp_path / "f.yaml")
    assert load_topology(tmp_path / "f.yaml").spec == spec


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: [", "not YAML"),
        ("- a", "has `switches` and `blocks`"),
        (SMALL.replace("switch: leaf-b", "switch: leaf-c"), "no switch of this file"),
        (SMALL.replace("[leaf-a, leaf-b]", "[leaf-a]"), "no switch of this file"),
        (SMALL.replace("n[11-12,15]", "n[12-11]"), "range of hosts"),
        (SMALL.replace('nodes: ["n[1-2]", n7]', "hosts: 3"), "has `switch` and `nodes`"),
        (SMALL.replace("blocks:", "  other: {switches: [leaf-a]}\nblocks:"), "hangs under"),
        (
            SMALL.replace("blocks:", "  core: {switches: [spine]}\n  top: {switches: [core]}\nblocks:"),
            "fourth tier",
        ),
    ],
)
def test_malformed_models(text: str, rule: str) -> None:
    with pytest.raises(TopologyError, match=rule):
        import_fabric(text, read_topology("dgx_a100"))


def test_hosts_need_parts() -> None:
    drawn = import_fabric(SMALL, read_topology("dgx_a100"))
    with pytest.raises(TopologyError, match="described by parts"):
        import_fabric(SMALL, drawn)
