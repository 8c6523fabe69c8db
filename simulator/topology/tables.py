"""Paths inside one node as padded arrays: GPU to GPU, GPU to its NIC, NIC to GPU."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.errors import TopologyError
from simulator.topology.block import Block, Ints
from simulator.topology.paths import PathTree, Wiring, path_tree
from simulator.topology.spec import LINK_KINDS, VERTEX_KINDS

Links = NDArray[np.int64]
"""Link numbers within the block, padded with -1 at the end of each row."""


@dataclass(frozen=True, eq=False)
class NodeTables:
    """Routes of one node. `k` counts the NICs of a GPU (more than one where NICs outnumber GPUs)."""

    between: Links
    """(gpus, gpus, hops)"""
    gpu_nic: Ints
    """(gpus, k) NIC index of each GPU's own NICs, nearest by PCIe."""
    out: Links
    """(gpus, k, hops) from GPU to NIC."""
    into: Links
    """(gpus, k, hops) from NIC to GPU."""
    nvlink_only: NDArray[np.bool_]
    """(gpus, gpus) whether the path between two GPUs stays on NVLink or xGMI."""


def node_tables(block: Block) -> NodeTables:
    """All routes of the node; ties are dealt by the pair's numbers, so that they spread."""
    gpus = range(block.gpus)
    paths = [[block.tree(a).path(b, choice=a + b) for b in gpus] for a in gpus]
    fast = {LINK_KINDS.index("nvlink"), LINK_KINDS.index("xgmi")}
    kinds = block.kind.tolist()
    own, trees = own_nics(block)
    out, into = [], []
    for gpu in gpus:
        vertices = [int(block.nics[nic]) for nic in own[gpu]]
        out.append([trees[gpu].path(vertex) for vertex in vertices])
        into.append([_back(block, trees[gpu].path(vertex)) for vertex in vertices])
    return NodeTables(
        between=_padded(paths),
        gpu_nic=np.array(own, dtype=np.int64).reshape(block.gpus, -1),
        out=_padded(out),
        into=_padded(into),
        nvlink_only=np.array([[all(kinds[link] in fast for link in path) for path in row] for row in paths]),
    )


def own_nics(block: Block) -> tuple[list[tuple[int, ...]], list[PathTree]]:
    """The NIC indices that belong to each GPU, and each GPU's paths to NICs.

    A GPU's NICs are the nearest ones over PCIe. Those that several GPUs find equally near are dealt out among them
    in order, as NCCL does (a NIC is shared only where GPUs outnumber NICs).
    """
    if not len(block.nics):
        return [() for _ in range(block.gpus)], []
    trees = [_to_nics(block, gpu) for gpu in range(block.gpus)]
    sharers: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for gpu, tree in enumerate(trees):
        cost = [tree.cost.get(int(vertex), 1 << 30) for vertex in block.nics]
        sharers[tuple(nic for nic, c in enumerate(cost) if c == min(cost))].append(gpu)
    own: list[tuple[int, ...]] = [()] * block.gpus
    for nics, group in sharers.items():
        for order, gpu in enumerate(group):
            each = max(1, len(nics) // len(group))
            first = order * len(nics) // len(group) if len(nics) < len(group) else order * each
            own[gpu] = nics[first : first + each]
    most = max(len(nics) for nics in own)
    return [tuple(nics[k % len(nics)] for k in range(most)) for nics in own], trees


def _to_nics(block: Block, gpu: int) -> PathTree:
    """Paths from a GPU that avoid NVLink; all paths, where that leaves some NIC unreached."""
    scale_up = {LINK_KINDS.index("nvlink"), LINK_KINDS.index("xgmi")}
    wiring = block.wiring
    gpu_kind = VERTEX_KINDS.index("gpu")
    leaving = {
        vertex: [link for link in links if wiring.kind[link] not in scale_up]
        for vertex, links in wiring.leaving.items()
        if vertex == gpu or wiring.vertex_kind[vertex] != gpu_kind
    }
    narrowed = Wiring(wiring.source, wiring.destination, wiring.kind, wiring.vertex_kind)
    object.__setattr__(narrowed, "leaving", leaving)
    tree = path_tree(narrowed, gpu)
    return tree if any(tree.reaches(int(nic)) for nic in block.nics) else block.tree(gpu)


def _back(block: Block, path: Sequence[int]) -> tuple[int, ...]:
    """The same way in the other direction."""
    by_ends = {
        (s, t): link for link, (s, t) in enumerate(zip(block.source.tolist(), block.destination.tolist(), strict=True))
    }
    ends = [(int(block.destination[link]), int(block.source[link])) for link in reversed(path)]
    one_way = next((pair for pair in ends if pair not in by_ends), None)
    if one_way is not None:
        a, b = (block.vertices[end].name for end in one_way)
        raise TopologyError(given=f"{b} -> {a}", rule="links of NICs go both ways", way_out="make the link duplex")
    return tuple(by_ends[pair] for pair in ends)


def _padded(rows: Sequence[Sequence[Sequence[int]]]) -> Links:
    """(rows, columns, longest) with -1 where a path is shorter."""
    columns = max((len(row) for row in rows), default=0)
    longest = max((len(path) for row in rows for path in row), default=0)
    table = np.full((len(rows), columns, longest), -1, dtype=np.int64)
    for i, row in enumerate(rows):
        for j, path in enumerate(row):
            table[i, j, : len(path)] = path
    return table
