"""Topology files: the shipped ones, round trips, and one clear error for each thing that can be wrong."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from topology_cases import WIRES, clusters, node_specs

from simulator.errors import ShardsimError, TopologyError, UnitError
from simulator.scenario.topology_file import (
    dump_topology,
    find_topology,
    list_topologies,
    load_topology,
    parse_topology,
    read_topology,
    topology_schema,
)
from simulator.topology.cluster import Cluster, build_cluster
from simulator.topology.facts import group_links
from simulator.topology.spec import ClusterSpec

TEXT = find_topology("dgx_h100").read_text(encoding="utf-8")


def test_what_is_shipped() -> None:
    wanted = {"dgx_a100", "dgx_h100", "hgx_h800", "hgx_h200", "dgx_b200", "gb200_nvl72", "l40s_pcie", "mi300x"}
    assert wanted <= set(list_topologies())


@pytest.mark.parametrize("name", list_topologies())
def test_shipped_files_agree_with_the_catalogue(name: str) -> None:
    spec = read_topology(name)
    assert spec.name == name
    assert spec.sources
    links = group_links(load_topology(name, 2), range(load_topology(name).gpus))
    if links.scale_up != "pcie":
        assert links.scale_up_bytes_per_s == links.device.nvlink_bytes_per_s
    several = group_links(load_topology(name, 2), range(2 * links.ranks))
    if links.device.nic_bytes_per_s:
        assert several.nic_bytes_per_s == links.device.nic_bytes_per_s


def test_found_by_path_and_name(tmp_path: Path) -> None:
    copy = tmp_path / "mine.yaml"
    copy.write_text(TEXT, encoding="utf-8")
    assert load_topology(copy, 3).gpus == load_topology("dgx_h100.yaml", 3).gpus == 24
    with pytest.raises(TopologyError, match=r"dgx_h1000.*shipped are .*dgx_h100"):
        load_topology("dgx_h1000")
    with pytest.raises(TopologyError, match="no file and no shipped"):
        load_topology(tmp_path / "dgx_h100.yaml")


@settings(max_examples=40, deadline=None)
@given(node=node_specs(), name=st.text("abc_ :#'é", min_size=1), wire=WIRES)
def test_written_and_read_again(tmp_path_factory: pytest.TempPathFactory, node, name: str, wire) -> None:
    path = tmp_path_factory.mktemp("topology") / "t.yaml"
    fabric = read_topology("dgx_h100").fabric
    assert fabric is not None
    spec = ClusterSpec(name, node, dataclasses.replace(fabric, hop=wire, rails=node.nics.count if node.nics else 1))
    dump_topology(spec, path)
    assert read_topology(path) == spec


@settings(max_examples=10, deadline=None)
@given(clusters(most_nodes=3))
def test_clusters_survive_the_file(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> None:
    path = tmp_path_factory.mktemp("topology") / "t.yaml"
    dump_topology(cluster.spec, path)
    again = load_topology(path, cluster.nodes)
    assert (again.link_bandwidth_bytes_per_s == cluster.link_bandwidth_bytes_per_s).all()
    assert (again.link_latency_s == cluster.link_latency_s).all()


@pytest.mark.parametrize(
    ("old", "new", "kind", "parts"),
    [
        ("450 GB/s", "450 GB", UnitError, ["bandwidth", "450 GB"]),
        ("450 GB/s", "0 GB/s", UnitError, ["bandwidth", "above zero"]),
        ("450 GB/s", "-1 GB/s", UnitError, ["bandwidth", "above zero"]),
        ("450 GB/s", "nan GB/s", UnitError, ["bandwidth"]),
        ("450 GB/s", "450", UnitError, ["bandwidth", "450"]),
        ("latency: 0.3 us\n    multicast", "latency: 3 parsecs\n    multicast", UnitError, ["latency", "parsecs"]),
        ("gpus: 8", "gpus: 0", TopologyError, ["gpus", "0"]),
        ("gpus: 8", "gpus: many", TopologyError, ["gpus", "many"]),
        ("gpus: 8", "gpus: 7", TopologyError, ["node.pcie.sockets", "does not divide"]),
        ("gpu: H100-SXM", "gpu: H1000-SXM", TopologyError, ["H1000", "did you mean"]),
        ("chips: 4", "chipz: 4", TopologyError, ["node.scale_up", "chipz", "unknown key", "did you mean chips"]),
        ("kind: nvswitch", "kind: token_ring", TopologyError, ["node.scale_up", "token_ring"]),
        ("kind: infiniband", "kind: arcnet", TopologyError, ["fabric.kind", "arcnet"]),
        ("oversubscription: 1.0", "oversubscription: 0", TopologyError, ["oversubscription", "0"]),
        ("oversubscription: 1.0", "oversubscription: .nan", TopologyError, ["oversubscription"]),
        ("tiers: 3", "tiers: 4", TopologyError, ["tiers", "4"]),
        ("switch_ports: 64", "switch_ports: 8", TopologyError, ["switch_ports", "8"]),
        ("node:\n", "knot:\n", TopologyError, ["knot"]),
        ("name: dgx_h100", "name: [", TopologyError, ["is not YAML"]),
    ],
)
def test_each_mistake_is_told_once(
    tmp_path: Path, old: str, new: str, kind: type[ShardsimError], parts: list[str]
) -> None:
    assert old in TEXT
    path = tmp_path / "bad.yaml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(kind) as caught:
        load_topology(path, 2)
    message = str(caught.value)
    assert message.startswith(str(path))
    for part in parts:
        assert part in message
    assert "\n" not in message


def test_errors_name_the_line() -> None:
    bad = TEXT.replace("chips: 4", "chips: four")
    line = 1 + bad[: bad.index("chips: four")].count("\n")
    with pytest.raises(TopologyError, match=rf"^mine\.yaml:{line}: node\.scale_up\.chips: 'four'"):
        parse_topology(bad, "mine.yaml")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("- a\n- b\n", "is a mapping"),
        ("", "is a mapping"),
        ("name: \x00\n", "is not YAML"),
        ("name: x\n", "either `node` or `graph`"),
        ("name: x\nname: y\n", "duplicate"),
        ("name: x\ngraph: {vertices: [{name: a, kind: toaster}], links: []}\n", "toaster"),
        (TEXT.replace("    socket_link", "    # socket_link"), "socket_link"),
    ],
)
def test_files_that_are_no_topologies(text: str, rule: str) -> None:
    with pytest.raises(TopologyError, match=rule):
        parse_topology(text, "t.yaml")


def test_unreachable_gpu_in_a_file() -> None:
    text = """
name: torn
graph:
  vertices:
    - {name: a, kind: gpu, device: H100}
    - {name: b, kind: gpu, device: H100}
    - {name: c, kind: gpu, device: H100}
  links:
    - {source: a, destination: c, kind: nvlink, bandwidth: 100 GB/s, latency: 1 us}
"""
    spec = parse_topology(text)
    with pytest.raises(TopologyError, match="b: cannot be reached from"):
        build_cluster(spec)


def test_schema_is_json_and_closed() -> None:
    schema = topology_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False
    assert {"node", "graph", "fabric"} <= set(schema["properties"])
