"""NVLink SHARP: the NVSwitch adds and multicasts, so that a GPU sends and receives each byte about once.

Klenk et al., "An in-network architecture for accelerating shared-memory multiprocessor collectives", ISCA 2020,
doi:10.1109/ISCA45697.2020.00085; NCCL algorithms NVLS (2.17, 2023) and NVLS tree (2.18). Rank h of a node ("head")
reads the sum of its share through the switch, and writes results through it to all.
"""

from simulator.collectives.builders.setting import Plan, Setting, merged, staggered
from simulator.collectives.builders.tree import double_trees, rank_tree, tree_rounds
from simulator.collectives.schedule import Nodes, Round, Transfer
from simulator.errors import ScheduleError


def one_node(setting: Setting) -> tuple[int, ...]:
    """The ranks of the only node, refused where there are more nodes."""
    if len(setting.nodes) > 1:
        raise ScheduleError(
            where="nvls",
            given=f"{len(setting.nodes)} nodes",
            rule="needs all ranks behind one switch",
            way_out="use nvls_tree or ring",
        )
    return setting.nodes[0]


def need_nodes(setting: Setting) -> None:
    """Refuse one node."""
    if len(setting.nodes) < 2:
        raise ScheduleError(where="nvls_tree", given="one node", rule="needs two nodes or more", way_out="use nvls")


def _reduce(node: tuple[int, ...], switch: int, heads: tuple[int, ...], chunks: tuple[int, ...]) -> list[Round]:
    """Every rank's term of each chunk meets in the switch; chunk k then goes to heads[k]."""
    into = tuple(Transfer(rank, switch, chunk, reduce=True) for rank in node for chunk in chunks)
    out = tuple(Transfer(switch, head, chunk, reduce=False) for head, chunk in zip(heads, chunks, strict=True))
    return [into, out]


def _multicast(node: tuple[int, ...], switch: int, heads: tuple[int, ...], chunks: tuple[int, ...]) -> list[Round]:
    into = tuple(Transfer(head, switch, chunk, reduce=False) for head, chunk in zip(heads, chunks, strict=True))
    out = tuple(
        Transfer(switch, rank, chunk, reduce=False)
        for head, chunk in zip(heads, chunks, strict=True)
        for rank in node
        if rank != head
    )
    return [into, out]


def all_reduce(setting: Setting) -> Plan:
    """Four stages (terms in, sum to its head, head back in, sum to all), `pipeline` pieces one behind the other."""
    node = one_node(setting)
    n, pieces = setting.ranks, setting.pipeline
    parts = []
    for p in range(pieces):
        chunks = tuple(rank * pieces + p for rank in node)
        parts.append([*_reduce(node, n, node, chunks), *_multicast(node, n, node, chunks)])
    return Plan(n * pieces, staggered(parts), switches=1)


def reduce_scatter(setting: Setting) -> Plan:
    """Terms in, each sum out to the rank of its shard."""
    node = one_node(setting)
    n, pieces = setting.ranks, setting.pipeline
    parts = [_reduce(node, n, node, tuple(rank * pieces + p for rank in node)) for p in range(pieces)]
    return Plan(n * pieces, staggered(parts), switches=1)


def all_gather(setting: Setting) -> Plan:
    """Each rank writes its shard once; the switch multicasts it."""
    node = one_node(setting)
    n, pieces = setting.ranks, setting.pipeline
    parts = [_multicast(node, n, node, tuple(rank * pieces + p for rank in node)) for p in range(pieces)]
    return Plan(n * pieces, staggered(parts), switches=1)


def _head_places(nodes: Nodes) -> int:
    return min(len(node) for node in nodes)


def tree_all_reduce(setting: Setting) -> Plan:
    """NVLS tree: summed in each node's switch, trees between heads of the same place, multicast in each node.

    Pieces take turns between the two trees of a double binary tree, so that each head is inner for half of them. Where
    nodes differ in size, the smallest has all its ranks as heads and the others as many.
    """
    nodes, pieces = setting.nodes, setting.pipeline
    need_nodes(setting)
    places = _head_places(nodes)
    pair = double_trees(len(nodes))
    parts = []
    for p in range(pieces):
        chunks = tuple(place * pieces + p for place in range(places))
        switches = [setting.ranks + index for index in range(len(nodes))]
        ends = [(node, switch, node[:places], chunks) for node, switch in zip(nodes, switches, strict=True)]
        between = merged(
            tree_rounds(rank_tree(tuple((node[place],) for node in nodes), pair[p % 2], 0), [chunks[place]])
            for place in range(places)
        )
        parts.append([*merged(_reduce(*end) for end in ends), *between, *merged(_multicast(*end) for end in ends)])
    return Plan(places * pieces, staggered(parts), switches=len(nodes))
