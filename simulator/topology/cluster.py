"""A cluster: GPUs 0..N-1, everything between them, and every directed link with its bandwidth and latency.

Nodes are alike, so a cluster is one `Block` repeated, and a leaf-spine fabric sized for it. Links are numbered once
and for all: node by node in the block's order, then NIC to leaf and back, leaf to spine and back, spine to core and
back. That makes routes arithmetic, and 16,384 GPUs a matter of arrays; the networkx graph is built when asked for.
"""

from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from simulator.errors import TopologyError
from simulator.hardware.device import Device
from simulator.topology.block import Block, Floats, Ints, build_block, check_wire
from simulator.topology.expand import expand
from simulator.topology.group import GroupLinks, Network
from simulator.topology.leafspine import Shape, shape_fabric
from simulator.topology.spec import LINK_KINDS, VERTEX_KINDS, ClusterSpec, Graph
from simulator.topology.tables import NodeTables, node_tables
from simulator.topology.wiring import FabricLinks, wire_fabric


@dataclass(frozen=True, eq=False)
class Cluster:
    """GPUs and links of a cluster. Vertices 0..gpus-1 are the GPUs; all arrays are read-only by convention."""

    spec: ClusterSpec
    block: Block
    copies: int
    """How often the block is repeated (1 for an explicit multi-node graph)."""
    shape: Shape | None
    fabric_links: FabricLinks

    @property
    def name(self) -> str:
        """Name of the topology."""
        return self.spec.name

    @cached_property
    def nodes(self) -> int:
        """Nodes, i.e. scale-up domains."""
        return int(self.gpu_node.max()) + 1

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return self.block.gpus * self.copies

    @property
    def network(self) -> Network:
        """Kind of the network between nodes."""
        return self.spec.fabric.kind if self.spec.fabric else self.spec.network

    @cached_property
    def gpu_node(self) -> Ints:
        """(gpus,) node of each GPU."""
        inside = np.array([v.node for v in self.block.vertices[: self.block.gpus]], dtype=np.int64)
        span = int(inside.max()) + 1
        return (np.arange(self.copies)[:, None] * span + inside).ravel()

    @cached_property
    def gpu_local(self) -> Ints:
        """(gpus,) index of each GPU within its node."""
        order = np.argsort(self.gpu_node, kind="stable")
        counts = np.bincount(self.gpu_node)
        local = np.empty(self.gpus, dtype=np.int64)
        local[order] = np.arange(self.gpus) - np.repeat(np.cumsum(counts) - counts, counts)
        return local

    @cached_property
    def gpu_socket(self) -> Ints:
        """(gpus,) CPU socket of each GPU within its node."""
        inside = np.array([v.socket for v in self.block.vertices[: self.block.gpus]], dtype=np.int64)
        return np.tile(inside, self.copies)

    def device(self, gpu: int = 0) -> Device:
        """The model of a GPU."""
        return self.block.devices[self.check_gpu(gpu) % self.block.gpus]

    def check_gpu(self, gpu: int) -> int:
        """The number itself, or TopologyError where there is no such GPU."""
        if not 0 <= gpu < self.gpus:
            raise TopologyError(given=f"GPU {gpu}", rule=f"{self.name} has GPUs 0 to {self.gpus - 1}")
        return gpu

    def gpus_of_node(self, node: int) -> tuple[int, ...]:
        """GPUs of a node, in order."""
        return tuple(np.flatnonzero(self.gpu_node == node).tolist())

    @cached_property
    def tables(self) -> NodeTables:
        """Routes inside a node, tabulated on first use."""
        return node_tables(self.block)

    @cached_property
    def route_memo(self) -> dict[object, tuple[int, ...]]:
        """Single routes found so far (filled by routes.route)."""
        return {}

    @cached_property
    def facts_memo(self) -> dict[tuple[int, ...], GroupLinks]:
        """Groups looked at so far (filled by facts.group_links)."""
        return {}

    # ---- links ------------------------------------------------------------------------------------------------

    @property
    def links(self) -> int:
        """Number of directed links."""
        return len(self.block.source) * self.copies + len(self.fabric_links.source)

    @cached_property
    def link_source(self) -> Ints:
        """(links,) vertex each link leaves."""
        return np.concatenate([self._repeated(self.block.source), self.fabric_links.source])

    @cached_property
    def link_destination(self) -> Ints:
        """(links,) vertex each link enters."""
        return np.concatenate([self._repeated(self.block.destination), self.fabric_links.destination])

    @cached_property
    def link_kind(self) -> Ints:
        """(links,) index into spec.LINK_KINDS."""
        return np.concatenate([np.tile(self.block.kind, self.copies), self.fabric_links.kind])

    @cached_property
    def link_bandwidth_bytes_per_s(self) -> Floats:
        """(links,) bandwidth of each directed link."""
        return np.concatenate(
            [np.tile(self.block.bandwidth_bytes_per_s, self.copies), self.fabric_links.bandwidth_bytes_per_s]
        )

    @cached_property
    def link_latency_s(self) -> Floats:
        """(links,) time of the first byte over each directed link."""
        return np.concatenate([np.tile(self.block.latency_s, self.copies), self.fabric_links.latency_s])

    def _repeated(self, vertices: Ints) -> Ints:
        copy = np.arange(self.copies)[:, None]
        return self.vertex(copy, vertices[None, :]).ravel()

    # ---- vertices ---------------------------------------------------------------------------------------------

    def vertex(self, copy: Ints, inside: Ints) -> Ints:
        """Number of the vertex `inside` the block's `copy`; GPUs come before all others."""
        return block_vertex(self.block, self.copies, copy, inside)

    @cached_property
    def vertex_kind(self) -> Ints:
        """(vertices,) index into spec.VERTEX_KINDS."""
        kinds, gpus = self.block.vertex_kind, self.block.gpus
        parts = [np.tile(kinds[:gpus], self.copies), np.tile(kinds[gpus:], self.copies)]
        shape = self.shape
        for kind, count in (("leaf", shape.leaves), ("spine", shape.spines), ("core", shape.cores)) if shape else ():
            parts.append(np.full(count, VERTEX_KINDS.index(kind)))
        return np.concatenate(parts)

    @property
    def vertices(self) -> int:
        """Number of vertices."""
        return len(self.vertex_kind)

    def vertex_name(self, vertex: int) -> str:
        """Readable name: `node3.gpu5`, `leaf12`; names of an explicit graph as they were given."""
        gpus, others = self.block.gpus, len(self.block.vertices) - self.block.gpus
        in_blocks = self.copies * len(self.block.vertices)
        if vertex >= in_blocks:
            first = int(np.searchsorted(self.vertex_kind[in_blocks:], self.vertex_kind[vertex])) + in_blocks
            return f"{VERTEX_KINDS[self.vertex_kind[vertex]]}{vertex - first}"
        if vertex < self.gpus:
            copy, inside = divmod(vertex, gpus)
        else:
            copy, inside = divmod(vertex - self.gpus, others)
            inside += gpus
        name = self.block.vertices[inside].name
        return f"node{copy}.{name}" if self.copies > 1 or self.shape else name

    @cached_property
    def graph(self) -> "nx.DiGraph[int]":
        """The cluster as a networkx graph: vertices by number, with name and kind; links with all their facts."""
        graph: nx.DiGraph[int] = nx.DiGraph(name=self.name)
        for vertex, kind in enumerate(self.vertex_kind.tolist()):
            graph.add_node(vertex, name=self.vertex_name(vertex), kind=VERTEX_KINDS[kind])
        facts = zip(
            self.link_source.tolist(),
            self.link_destination.tolist(),
            self.link_kind.tolist(),
            self.link_bandwidth_bytes_per_s.tolist(),
            self.link_latency_s.tolist(),
            strict=True,
        )
        for link, (source, destination, kind, bandwidth, latency) in enumerate(facts):
            graph.add_edge(
                source,
                destination,
                link=link,
                kind=LINK_KINDS[kind],
                bandwidth_bytes_per_s=bandwidth,
                latency_s=latency,
            )
        return graph


def block_vertex(block: Block, copies: int, copy: NDArray[np.int64], inside: NDArray[np.int64]) -> Ints:
    """Number of the vertex `inside` the `copy`-th block of a cluster."""
    gpus, others = block.gpus, len(block.vertices) - block.gpus
    return np.where(inside < gpus, copy * gpus + inside, copies * gpus + copy * others + inside - gpus)


def build_cluster(spec: ClusterSpec, nodes: int = 1) -> Cluster:
    """The cluster of `nodes` nodes.

    An explicit graph that already spans several nodes is taken as it is (`nodes` must be 1 or their number).
    Raises TopologyError where the description is malformed, disconnected, or its fabric cannot hold the nodes.
    """
    if nodes < 1:
        raise TopologyError(given=str(nodes), rule="a cluster has at least one node", where="nodes")
    where = f"{spec.name}: "
    graph = spec.node if isinstance(spec.node, Graph) else expand(spec.node)
    block = build_block(graph, where)
    span = len({vertex.node for vertex in block.vertices[: block.gpus]})
    if span > 1:
        if nodes not in (1, span) or spec.fabric is not None:
            raise TopologyError(
                given=f"{nodes} nodes" if spec.fabric is None else "a fabric",
                rule=f"the graph lists {span} nodes and what joins them",
                way_out="leave out nodes and fabric",
                where=where,
            )
        return Cluster(spec, block, 1, None, FabricLinks.none())
    if spec.fabric is None or len(block.nics) == 0:
        if nodes > 1:
            raise TopologyError(
                given=f"{nodes} nodes",
                rule="nothing joins the nodes",
                way_out="describe nics and a fabric",
                where=where,
            )
        return Cluster(spec, block, 1, None, FabricLinks.none())
    check_wire(spec.fabric.hop.bandwidth_bytes_per_s, spec.fabric.hop.latency_s, f"{where}fabric.hop")
    shape = shape_fabric(spec.fabric, len(block.nics), nodes)
    first = nodes * len(block.vertices)
    copies, nics = np.arange(nodes)[:, None], block.nics[None, :]
    return Cluster(spec, block, nodes, shape, wire_fabric(spec, shape, block_vertex(block, nodes, copies, nics), first))
