"""Fabric trees in topograph's model files: switches over switches over blocks of hosts, without bandwidths.

The file says who hangs under which switch; what a host is comes from a topology file, and uplinks are given the
bandwidth of all NICs below them (divided by a stated oversubscription).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from simulator.errors import TopologyError
from simulator.topology.expand import expand
from simulator.topology.spec import ClusterSpec, Graph, LinkSpec, NodeSpec, VertexKind, VertexSpec

_TIERS: tuple[VertexKind, ...] = ("leaf", "spine", "core")
_HOSTS = re.compile(r"^(.*)\[([\d,\-]+)\]$")


@dataclass(frozen=True, slots=True)
class _Block:
    """Hosts under one leaf; `domain` is set where they form one scale-up domain."""

    leaf: str
    hosts: int
    domain: str


def import_fabric(text: str, host: ClusterSpec, oversubscription: float = 1.0) -> ClusterSpec:
    """The cluster that a topograph model describes, its hosts built as `host` says.

    A block with an accelerator domain becomes one node of as many trays as it has hosts; other hosts become nodes.
    Raises TopologyError for malformed text, an unknown switch, a tree of more than three tiers, or a host that is
    given vertex by vertex or without NICs or without a fabric (whose switches' latency is taken).
    """
    node = host.node
    if not isinstance(node, NodeSpec) or node.nics is None:
        raise TopologyError(
            given=host.name, rule="hosts are described by parts, with NICs", way_out="use e.g. gb200_nvl72"
        )
    if host.fabric is None:
        raise TopologyError(given=host.name, rule="describes no fabric, whose kind and latency are needed here")
    if oversubscription <= 0:
        raise TopologyError(given=f"{oversubscription:g}", rule="is a ratio above 0", where="oversubscription")
    parents, blocks = _read(text)
    vertices: list[VertexSpec] = []
    links: list[LinkSpec] = []
    below: dict[str, float] = {}
    nodes = [(block.leaf, spec) for block in blocks for spec in _nodes(node, block)]
    for number, (leaf, spec) in enumerate(nodes):
        _place(spec, leaf, number, vertices, links)
        nics = spec.nics.count if spec.nics else 0
        below[leaf] = below.get(leaf, 0.0) + node.nics.port.bandwidth_bytes_per_s * nics
    vertices += [VertexSpec(name, kind) for name, kind in _switches(parents, blocks)]
    links += _uplinks(parents, below, host.fabric.hop.latency_s, oversubscription)
    return ClusterSpec(
        f"fabric_of_{host.name}",
        Graph(tuple(vertices), tuple(links), expand(node).multicast),
        None,
        f"from a topograph model, hosts as {host.name}; uplinks assumed at {oversubscription:g}:1",
        ("topograph model",),
        host.fabric.kind,
    )


def _place(spec: NodeSpec, leaf: str, number: int, vertices: list[VertexSpec], links: list[LinkSpec]) -> None:
    """Add node `number` and its cables to the leaf."""
    graph, name = expand(spec), f"node{number}"
    vertices += [replace(vertex, name=f"{name}.{vertex.name}", node=number) for vertex in graph.vertices]
    links += [replace(k, source=f"{name}.{k.source}", destination=f"{name}.{k.destination}") for k in graph.links]
    if spec.nics is not None:
        wire = (spec.nics.port.bandwidth_bytes_per_s, spec.nics.port.latency_s)
        links += [LinkSpec(f"{name}.nic{nic}", leaf, "nic", *wire) for nic in range(spec.nics.count)]


def _read(text: str) -> tuple[dict[str, str], list[_Block]]:
    """Parent of each switch, and the blocks."""
    try:
        document = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise TopologyError(given=str(error).splitlines()[0], rule="is not YAML", where="topograph model") from None
    if not isinstance(document, Mapping) or not {"switches", "blocks"} <= document.keys():
        raise TopologyError(given="the file", rule="has `switches` and `blocks`", where="topograph model")
    parents: dict[str, str] = {}
    for name, switch in document["switches"].items():
        for child in (switch or {}).get("switches", ()):
            if child in parents:
                raise TopologyError(
                    given=child, rule=f"hangs under {parents[child]} and {name}", where="topograph model: switches"
                )
            parents[child] = name
    blocks = [_block(index, block) for index, block in enumerate(document["blocks"])]
    for block in blocks:
        if block.leaf not in parents and len(document["switches"]) > 0 and block.leaf not in document["switches"]:
            raise TopologyError(given=block.leaf, rule="is no switch of this file", where="topograph model: blocks")
    return parents, blocks


def _block(index: int, block: Any) -> _Block:
    if not isinstance(block, Mapping) or "switch" not in block or not block.get("nodes"):
        raise TopologyError(given="a block", rule="has `switch` and `nodes`", where=f"topograph model: blocks[{index}]")
    domains = [str(v) for k, v in (block.get("annotations") or {}).items() if str(k).endswith("/domain")]
    hosts = sum(_count_hosts(str(entry), index) for entry in block["nodes"])
    return _Block(str(block["switch"]), hosts, domains[0] if domains else "")


def _count_hosts(entry: str, index: int) -> int:
    """Hosts named by `node[1101-1118,1201]` or `node7`."""
    match = _HOSTS.match(entry)
    if match is None:
        return 1
    count = 0
    for part in match[2].split(","):
        first, _, last = part.partition("-")
        if not first or (last and int(last) < int(first)):
            raise TopologyError(
                given=entry, rule="is a range of hosts", where=f"topograph model: blocks[{index}].nodes"
            )
        count += int(last or first) - int(first) + 1
    return count


def _nodes(node: NodeSpec, block: _Block) -> Iterator[NodeSpec]:
    """The block's nodes: one of all its hosts where they share a domain, else one for each host."""
    assert node.nics is not None
    trays = block.hosts if block.domain else 1
    gpus, nics = node.gpus // node.trays, node.nics.count // node.trays
    spec = replace(node, gpus=gpus * trays, trays=trays, nics=replace(node.nics, count=nics * trays))
    for _ in range(1 if block.domain else block.hosts):
        yield spec


def _switches(parents: Mapping[str, str], blocks: list[_Block]) -> Iterator[tuple[str, VertexKind]]:
    """Every switch above a block, by its height."""
    tier: dict[str, int] = {}
    for block in blocks:
        name, height = block.leaf, 0
        while True:
            if height >= len(_TIERS):
                raise TopologyError(
                    given=name, rule="is a fourth tier of switches; three are known", where="topograph model"
                )
            if tier.setdefault(name, height) != height:
                raise TopologyError(given=name, rule="is on two tiers", where="topograph model")
            if name not in parents:
                break
            name, height = parents[name], height + 1
    for name, height in tier.items():
        yield name, _TIERS[height]


def _uplinks(parents: Mapping[str, str], below: dict[str, float], hop_s: float, ratio: float) -> Iterator[LinkSpec]:
    """Each switch to its parent, as wide as all NICs below it over the ratio (applied once, at the leaf)."""
    level = {name: bandwidth / ratio for name, bandwidth in below.items()}
    while level:
        above: dict[str, float] = {}
        for name, bandwidth in level.items():
            if name in parents:
                yield LinkSpec(name, parents[name], "network", bandwidth, hop_s)
                above[parents[name]] = above.get(parents[name], 0.0) + bandwidth
        level = above
