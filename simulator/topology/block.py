"""A checked graph as arrays: one node to be repeated, or a whole explicit cluster."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simulator.errors import TopologyError
from simulator.hardware.catalogue import find_device
from simulator.hardware.device import Device
from simulator.topology.paths import PathTree, Wiring, path_tree
from simulator.topology.spec import LINK_KINDS, VERTEX_KINDS, Graph, LinkSpec, VertexSpec

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Block:
    """Vertices numbered with the GPUs first; links are directed and numbered, a duplex link being 2k and 2k+1."""

    vertices: tuple[VertexSpec, ...]
    devices: tuple[Device, ...]
    """Of the GPUs, in order."""
    source: Ints
    destination: Ints
    kind: Ints
    """Index into LINK_KINDS."""
    bandwidth_bytes_per_s: Floats
    latency_s: Floats
    multicast: bool

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return len(self.devices)

    @cached_property
    def vertex_kind(self) -> Ints:
        """Index into VERTEX_KINDS, by vertex."""
        return np.array([VERTEX_KINDS.index(vertex.kind) for vertex in self.vertices], dtype=np.int64)

    @cached_property
    def nics(self) -> Ints:
        """Vertices that are NICs, in the order they are listed."""
        return np.flatnonzero(self.vertex_kind == VERTEX_KINDS.index("nic"))

    @cached_property
    def wiring(self) -> Wiring:
        """Adjacency for path search."""
        return Wiring(self.source.tolist(), self.destination.tolist(), self.kind.tolist(), self.vertex_kind.tolist())

    @cached_property
    def _trees(self) -> dict[int, PathTree]:
        return {}

    def tree(self, source: int) -> PathTree:
        """Shortest paths from a vertex, kept once found."""
        if source not in self._trees:
            self._trees[source] = path_tree(self.wiring, source)
        return self._trees[source]


def build_block(graph: Graph, where: str = "") -> Block:
    """The graph checked and numbered.

    Raises TopologyError: no GPU, a duplicate or unknown name, an unknown GPU model, a link to itself or listed twice,
    a bandwidth that is not positive and finite, a latency that is negative or not finite, GPUs that cannot reach
    each other.
    """
    ordered = sorted(graph.vertices, key=lambda vertex: vertex.kind != "gpu")
    _check_vertices(ordered, where)
    index = {vertex.name: i for i, vertex in enumerate(ordered)}
    for link in graph.links:
        _check_link(link, index, where)
    pairs = [(index[link.source], index[link.destination], link) for link in graph.links]
    directed = [d for s, t, link in pairs for d in ((s, t, link), (t, s, link))[: 1 + link.duplex]]
    _check_unique_links(directed, ordered, where)
    block = Block(
        vertices=tuple(ordered),
        devices=tuple(find_device(vertex.device) for vertex in ordered if vertex.kind == "gpu"),
        source=np.array([s for s, _, _ in directed], dtype=np.int64),
        destination=np.array([t for _, t, _ in directed], dtype=np.int64),
        kind=np.array([LINK_KINDS.index(link.kind) for _, _, link in directed], dtype=np.int64),
        bandwidth_bytes_per_s=np.array([link.bandwidth_bytes_per_s for _, _, link in directed], dtype=np.float64),
        latency_s=np.array([link.latency_s for _, _, link in directed], dtype=np.float64),
        multicast=graph.multicast,
    )
    _check_connected(block, where)
    return block


def _check_vertices(vertices: list[VertexSpec], where: str) -> None:
    if not any(vertex.kind == "gpu" for vertex in vertices):
        raise TopologyError(given="no GPU", rule="a topology has at least one GPU", where=where)
    twice = [name for name, times in Counter(vertex.name for vertex in vertices).items() if times > 1]
    if twice:
        raise TopologyError(
            given=repr(twice[0]), rule="names two vertices", way_out="give each its own name", where=where
        )
    nodes = {vertex.node for vertex in vertices if vertex.kind == "gpu"}
    if nodes != set(range(len(nodes))):
        raise TopologyError(
            given=f"nodes {sorted(nodes)}", rule="nodes of GPUs are numbered 0, 1, 2 ... without gaps", where=where
        )
    for vertex in vertices:
        if vertex.kind not in VERTEX_KINDS:
            raise TopologyError(
                given=vertex.kind, rule=f"is no kind of vertex ({', '.join(VERTEX_KINDS)})", where=vertex.name
            )
        if vertex.kind == "gpu":
            find_device(vertex.device)


def _check_link(link: LinkSpec, index: dict[str, int], where: str) -> None:
    name = f"{link.source} -> {link.destination}"
    here = f"{where}{name}"
    for end in (link.source, link.destination):
        if end not in index:
            raise TopologyError(
                given=repr(end), rule="is no vertex of this topology", way_out="list it under vertices", where=here
            )
    if link.source == link.destination:
        raise TopologyError(given=name, rule="a link joins two different vertices", where=where)
    if link.kind not in LINK_KINDS:
        raise TopologyError(given=repr(link.kind), rule=f"is no kind of link ({', '.join(LINK_KINDS)})", where=here)
    check_wire(link.bandwidth_bytes_per_s, link.latency_s, here)


def check_wire(bandwidth_bytes_per_s: float, latency_s: float, where: str) -> None:
    """Refuse a bandwidth that is not positive and finite, a latency that is negative or not finite."""
    if not (math.isfinite(bandwidth_bytes_per_s) and bandwidth_bytes_per_s > 0):
        raise TopologyError(
            given=f"{bandwidth_bytes_per_s:g} B/s",
            rule="a bandwidth is positive and finite",
            way_out="leave the link out if it is down",
            where=where,
        )
    if not (math.isfinite(latency_s) and latency_s >= 0):
        raise TopologyError(given=f"{latency_s:g} s", rule="a latency is zero or more, and finite", where=where)


def _check_unique_links(directed: list[tuple[int, int, LinkSpec]], vertices: list[VertexSpec], where: str) -> None:
    seen: set[tuple[int, int]] = set()
    for s, t, _ in directed:
        if (s, t) in seen:
            raise TopologyError(
                given=f"{vertices[s].name} -> {vertices[t].name}",
                rule="is listed twice",
                way_out="list parallel links once, with their bandwidths added",
                where=where,
            )
        seen.add((s, t))


def _check_connected(block: Block, where: str) -> None:
    """Every GPU is reached from the first, and reaches it: then each reaches each."""
    wiring = block.wiring
    reverse = path_tree(Wiring(wiring.destination, wiring.source, wiring.kind, wiring.vertex_kind), 0)
    first = block.vertices[0].name
    for gpu in range(1, block.gpus):
        name = block.vertices[gpu].name
        if not block.tree(0).reaches(gpu):
            raise TopologyError(
                given=name, rule=f"cannot be reached from {first}", way_out="add the link that joins them", where=where
            )
        if not reverse.reaches(gpu):
            raise TopologyError(given=name, rule=f"cannot reach {first}", way_out="make its links duplex", where=where)
