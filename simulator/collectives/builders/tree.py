"""Trees: latency that grows with the logarithm of the number of nodes.

Sanders, Speck and Traff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan", Parallel
Computing 35 (2009) 581-594, doi:10.1016/j.parco.2009.09.001. As in NCCL (2.4, 2019) the two trees run over nodes,
each carries half of the message, and inside a node the ranks form a chain.
"""

from collections.abc import Sequence
from functools import lru_cache

from simulator.collectives.builders.setting import Plan, Setting, merged
from simulator.collectives.schedule import Nodes, Round, Transfer


def binary_parents(n: int) -> list[int]:
    """In-order binary tree over 0..n-1 in which every odd place is inner: parent of each, -1 for the root 0.

    A place whose lowest set bit is b hangs from the place with that bit cleared and the next one set, where there is
    one, else with it cleared; 0 is the root and has one child.
    """
    parents = [-1] * n
    for place in range(1, n):
        bit = place & -place
        up = (place ^ bit) | (bit << 1)
        parents[place] = up if up < n else place ^ bit
    return parents


@lru_cache(maxsize=512)
def double_trees(n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two trees in which hardly a place is inner in both: the second mirrors (n even) or shifts (n odd) the first."""
    first = binary_parents(n)
    second = [-1] * n
    for place in range(n):
        image = n - 1 - place if n % 2 == 0 else (place - 1) % n
        up = first[image]
        if up >= 0:
            second[place] = n - 1 - up if n % 2 == 0 else (up + 1) % n
    return tuple(first), tuple(second)


def rank_tree(nodes: Nodes, node_parents: Sequence[int], head: int) -> dict[int, int]:
    """Parent of each rank (-1: root): heads of nodes form the tree, the others of a node a chain below the head."""
    parents: dict[int, int] = {}
    for index, node in enumerate(nodes):
        chain = [node[(head + i) % len(node)] for i in range(len(node))]
        up = node_parents[index]
        parents[chain[0]] = -1 if up < 0 else nodes[up][head % len(nodes[up])]
        parents.update(zip(chain[1:], chain[:-1], strict=True))
    return parents


def depths(parents: dict[int, int]) -> dict[int, int]:
    """Edges between each rank and the root."""
    found: dict[int, int] = {}
    for rank in parents:
        path = []
        while rank >= 0 and rank not in found:
            path.append(rank)
            rank = parents[rank]
        depth = found[rank] + 1 if rank >= 0 else 0
        for place in reversed(path):
            found[place] = depth
            depth += 1
    return found


def heights(parents: dict[int, int]) -> dict[int, int]:
    """Edges between each rank and the deepest leaf below it."""
    found = dict.fromkeys(parents, 0)
    depth = depths(parents)
    for rank in sorted(parents, key=lambda r: -depth[r]):
        up = parents[rank]
        if up >= 0:
            found[up] = max(found[up], found[rank] + 1)
    return found


def tree_rounds(parents: dict[int, int], chunks: Sequence[int], *, up: bool = True, down: bool = True) -> list[Round]:
    """Reduce to the root and send back down, chunk p one round behind chunk p - 1."""
    depth, height = depths(parents), heights(parents)
    top = max(height.values())
    rounds: list[list[Transfer]] = [[] for _ in range(top * (up + down) + len(chunks) - 1)]
    for p, chunk in enumerate(chunks):
        for rank, parent in parents.items():
            if parent >= 0 and up:
                rounds[height[rank] + p].append(Transfer(rank, parent, chunk, reduce=True))
            if parent >= 0 and down:
                rounds[top * up + depth[parent] + p].append(Transfer(parent, rank, chunk, reduce=False))
    return [tuple(transfers) for transfers in rounds]


def channel_trees(setting: Setting) -> list[dict[int, int]]:
    """Two trees a channel; channel k has local rank k as the head of each node.

    Both trees of a channel share the head, which is inner in one and (nearly always) a leaf in the other, and channels
    spread over NICs.
    """
    pair = double_trees(len(setting.nodes))
    return [rank_tree(setting.nodes, tree, channel) for channel in range(setting.channels) for tree in pair]


def all_reduce(setting: Setting) -> Plan:
    """2 x depth + pipeline - 1 rounds; each tree carries its half in `pipeline` pieces."""
    trees = channel_trees(setting)
    pieces = setting.pipeline
    parts = [tree_rounds(tree, range(t * pieces, (t + 1) * pieces)) for t, tree in enumerate(trees)]
    return Plan(len(trees) * pieces, merged(parts))


def broadcast(setting: Setting) -> Plan:
    """A binomial tree from rank 0: round r doubles the ranks that hold the message; ceil(log2 n) rounds.

    With nodes given, the heads of nodes first, then the ranks of each node side by side.
    """
    nodes = sorted(setting.nodes, key=lambda node: 0 not in node)
    nodes = [tuple(sorted(node, key=lambda rank: rank != 0)) for node in nodes]
    chunks = range(setting.channels)
    across = _binomial([node[0] for node in nodes], chunks)
    inside = merged(_binomial(node, chunks) for node in nodes)
    return Plan(setting.channels, (*across, *inside))


def _binomial(members: Sequence[int], chunks: range) -> list[Round]:
    rounds = []
    width = 1
    while width < len(members):
        pairs = [(members[i], members[i + width]) for i in range(min(width, len(members) - width))]
        rounds.append(tuple(Transfer(a, b, chunk, reduce=False) for a, b in pairs for chunk in chunks))
        width *= 2
    return rounds
