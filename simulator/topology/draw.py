"""Where to draw what: vertices on tiers and the links between them, as plain tuples for any plotting library."""

from dataclasses import dataclass

import numpy as np

from simulator.topology.cluster import Cluster
from simulator.topology.routes import link_class
from simulator.topology.spec import VERTEX_KINDS, VertexKind
from simulator.units import format_bandwidth, format_time

_TIER: dict[VertexKind, float] = {
    "nvswitch": 0.0,
    "gpu": 1.0,
    "cpu": 2.5,
    "pcie_switch": 2.0,
    "nic": 3.0,
    "leaf": 4.0,
    "spine": 5.0,
    "core": 6.0,
}


@dataclass(frozen=True, slots=True)
class DrawnVertex:
    """A vertex at (x, y); `node` is -1 for switches of the fabric."""

    vertex: int
    label: str
    kind: VertexKind
    node: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class DrawnLink:
    """A duplex link between two drawn vertices, by the number of its first direction."""

    link: int
    source: int
    destination: int
    link_class: str
    label: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """What to draw, and how many nodes were left out."""

    vertices: tuple[DrawnVertex, ...]
    links: tuple[DrawnLink, ...]
    nodes_left_out: int


def draw(cluster: Cluster, most_nodes: int = 4) -> Drawing:
    """The first `most_nodes` nodes and every switch that they reach directly or through other switches.

    One unit of x is the room of a GPU; y rises from NVSwitch to core, one unit a tier.
    """
    node = vertex_node(cluster)
    shown = (node >= 0) & (node < most_nodes)
    shown |= (node < 0) & _reached(cluster, shown)
    chosen = np.flatnonzero(shown)
    kinds = cluster.vertex_kind
    width = float(np.count_nonzero(shown & (kinds == VERTEX_KINDS.index("gpu"))))
    share = width / max(1, min(most_nodes, cluster.nodes))
    placed: list[DrawnVertex] = []
    for kind_index in np.unique(kinds[chosen]).tolist():
        kind = VERTEX_KINDS[kind_index]
        for home in np.unique(node[chosen[kinds[chosen] == kind_index]]).tolist():
            group = chosen[(kinds[chosen] == kind_index) & (node[chosen] == home)].tolist()
            left, room = (0.0, width) if home < 0 else (home * share, share)
            for order, vertex in enumerate(group):
                x = left + room * (order + 0.5) / len(group)
                placed.append(DrawnVertex(vertex, cluster.vertex_name(vertex), kind, home, x, _TIER[kind]))
    return Drawing(tuple(placed), _drawn_links(cluster, shown), max(0, cluster.nodes - most_nodes))


def vertex_node(cluster: Cluster) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """(vertices,) node of each vertex, -1 for leaves, spines and cores."""
    block, copies = cluster.block, cluster.copies
    inside = np.array([v.node for v in block.vertices], dtype=np.int64)
    span = int(inside[: block.gpus].max()) + 1
    copy = np.arange(copies)[:, None] * span
    parts = [(copy + inside[: block.gpus]).ravel(), (copy + inside[block.gpus :]).ravel()]
    node = np.concatenate([*parts, np.full(cluster.vertices - copies * len(block.vertices), -1, dtype=np.int64)])
    node[np.isin(cluster.vertex_kind, [VERTEX_KINDS.index(kind) for kind in ("leaf", "spine", "core")])] = -1
    return node


def _reached(
    cluster: Cluster, shown: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Vertices within three links up from the shown ones: leaf, spine, core."""
    reached = shown.copy()
    above = np.array([_TIER[kind] for kind in VERTEX_KINDS])[cluster.vertex_kind]
    up = above[cluster.link_source] < above[cluster.link_destination]
    for _ in range(3):
        reached[cluster.link_destination[up & reached[cluster.link_source]]] = True
    return reached


def _drawn_links(cluster: Cluster, shown: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> tuple[DrawnLink, ...]:
    source, destination = cluster.link_source, cluster.link_destination
    drawn = []
    for link in np.flatnonzero(shown[source] & shown[destination] & (source < destination)).tolist():
        bandwidth = format_bandwidth(float(cluster.link_bandwidth_bytes_per_s[link]))
        latency = format_time(float(cluster.link_latency_s[link]))
        name = link_class(cluster, link)
        drawn.append(DrawnLink(link, int(source[link]), int(destination[link]), name, f"{name} {bandwidth}, {latency}"))
    return tuple(drawn)
