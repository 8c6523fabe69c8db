"""Closed forms of algorithms whose shape follows from parent arrays: O(n) or O(n log n), no schedule."""

from collections.abc import Iterable

import numpy as np

from simulator.collectives.builders.in_switch import need_nodes
from simulator.collectives.builders.ring import ring_orders
from simulator.collectives.builders.setting import Setting
from simulator.collectives.builders.tree import channel_trees, depths, double_trees
from simulator.collectives.volume import Ints, Shape, node_of


def _bits(below: int) -> int:
    """Rounds in which a binomial tree reaches `below` members."""
    return (below - 1).bit_length()


class _Edges:
    """Shares over directed edges between ranks, added up port by port."""

    def __init__(self, setting: Setting) -> None:
        self.where = node_of(setting.nodes)
        n = setting.ranks
        self.near, self.far = np.zeros((2, n)), np.zeros((2, n))
        self.node = np.zeros((2, len(setting.nodes)))

    def add(
        self, sources: Ints, destinations: Ints, share: float | np.ndarray[tuple[int], np.dtype[np.float64]]
    ) -> None:
        shares = np.broadcast_to(np.asarray(share, dtype=np.float64), sources.shape)
        far = self.where[sources] != self.where[destinations]
        for way, ranks in enumerate((sources, destinations)):
            np.add.at(self.near[way], ranks[~far], shares[~far])
            np.add.at(self.far[way], ranks[far], shares[far])
            np.add.at(self.node[way], self.where[ranks[far]], shares[far])

    def shape(self, rounds: int, chain: tuple[int, int]) -> Shape:
        """`chain`: (transfers between nodes, inside nodes) on the longest chain."""
        most = [float(table.max(initial=0.0)) for table in (self.near, self.far, self.node)]
        return Shape(rounds, chain[1], chain[0], *most)


def _deepest(parents: dict[int, int], where: Ints) -> tuple[int, int]:
    """(edges between nodes, inside) from the root to the rank with the most of the first, then of the second."""
    found: dict[int, tuple[int, int]] = {}
    depth = depths(parents)
    for rank in sorted(parents, key=lambda r: depth[r]):
        up = parents[rank]
        far, near = found.get(up, (0, 0))
        outside = up >= 0 and where[up] != where[rank]
        found[rank] = (far + 1, near) if outside else (far, near + (up >= 0))
    return max(found.values())


def _arrays(pairs: Iterable[tuple[int, int]]) -> tuple[Ints, Ints]:
    table = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def double_tree(setting: Setting) -> Shape:
    """Each of 2c trees moves 1 / 2c up and down every edge; 2 x depth + P - 1 rounds."""
    edges = _Edges(setting)
    trees = channel_trees(setting)
    for tree in trees:
        child, parent = _arrays((rank, up) for rank, up in tree.items() if up >= 0)
        edges.add(child, parent, 1 / len(trees))
        edges.add(parent, child, 1 / len(trees))
    far, near = max(_deepest(tree, edges.where) for tree in trees)
    height = max(max(depths(tree).values()) for tree in trees)
    return edges.shape(2 * height + setting.pipeline - 1, (2 * far, 2 * near))


def nvls_tree(setting: Setting) -> Shape:
    """In the node, everything once and a head's share once more; between nodes, trees of heads."""
    need_nodes(setting)
    heads, count, pieces = min(len(node) for node in setting.nodes), len(setting.nodes), setting.pipeline
    trees = double_trees(count)[: min(pieces, 2)]
    degrees = [np.bincount([p for p in tree if p >= 0], minlength=count) + (np.array(tree) >= 0) for tree in trees]
    mean = sum(degree * ((pieces + 1 - k) // 2) for k, degree in enumerate(degrees)) / pieces
    depth = [depths(dict(enumerate(tree))) for tree in trees]
    height = max(max(of.values()) for of in depth)
    deepest = {place for of in depth for place, d in of.items() if d == height}
    return Shape(
        rounds=4 + 2 * height + pieces - 1,
        # A sum multicast in a node of one rank has nobody to go to.
        hops=4 if any(len(setting.nodes[place]) > 1 for place in deepest) else 3,
        network_hops=2 * height,
        port_share=1 + 1 / heads,
        nic_share=float(np.max(mean)) / heads,
        node_share=float(np.max(mean)),
    )


def dissemination(setting: Setting, turns: int) -> Shape:
    """ceil(log2 n) rounds a turn; the shard d places above reaches a rank along the bits of d, lowest first."""
    n = setting.ranks
    edges, ranks = _Edges(setting), np.arange(n)
    for r in range(_bits(n)):
        width = 1 << r
        edges.add(ranks, (ranks - width) % n, min(width, n - width) / n)
    if turns == 2:
        edges.near, edges.far, edges.node = (table + table[::-1] for table in (edges.near, edges.far, edges.node))
    chain = _dissemination_chain(n, edges.where)
    return edges.shape(turns * _bits(n), (turns * chain[0], turns * chain[1]))


def _dissemination_chain(n: int, where: Ints) -> tuple[int, int]:
    """Longest path of any shard; O(n^2) unless all ranks share a node or none does."""
    origins = np.arange(n)
    most = max(d.bit_count() for d in range(n))
    if len(set(where.tolist())) in (1, n):
        return (0, most) if where[0] == where[-1] else (most, 0)
    far, near = np.zeros((n, n), dtype=np.int8), np.zeros((n, n), dtype=np.int8)
    for offset in range(1, n):
        before = offset ^ (1 << (offset.bit_length() - 1))
        outside = where[(origins - before) % n] != where[(origins - offset) % n]
        far[offset] = far[before] + outside
        near[offset] = near[before] + ~outside
    top = int(far.max())
    return top, int(near[far == top].max())


def chain_broadcast(setting: Setting) -> Shape:
    """One chain a channel from rank 0, each moving 1 / c; n - 1 + P - 1 rounds."""
    edges = _Edges(setting)
    orders = ring_orders(setting.nodes, setting.channels)
    most = (0, 0)
    for order in orders:
        root = order.index(0)
        chain = np.array(order[root:] + order[:root])
        edges.add(chain[:-1], chain[1:], 1 / len(orders))
        far = int((edges.where[chain[:-1]] != edges.where[chain[1:]]).sum())
        most = max(most, (far, len(chain) - 1 - far))
    return edges.shape(setting.ranks - 1 + setting.pipeline - 1, most)


def binomial_broadcast(setting: Setting) -> Shape:
    """Heads of nodes first, then nodes side by side: the message goes out once for each doubling."""
    sizes = [len(node) for node in sorted(setting.nodes, key=lambda node: 0 not in node)]
    rounds = _bits(len(sizes)) + max(_bits(m) for m in sizes)
    chains = ((place.bit_count(), max(d.bit_count() for d in range(m))) for place, m in enumerate(sizes))
    far, near = max(chains)
    out = float(_bits(len(sizes)))
    return Shape(rounds, near, far, float(max(_bits(m) for m in sizes)), out, out)
