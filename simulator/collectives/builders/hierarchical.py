"""Rings inside nodes, and rings between ranks of the same place in their nodes (one rail each).

Only 1/g of the message leaves each GPU towards the network. As in NVLink-then-rail designs (e.g. Jia et al., "Highly
scalable deep learning training system with mixed-precision", 2018, arXiv:1807.11205, section 3.2).
"""

from simulator.collectives.builders.ring import gather_rounds, scatter_rounds
from simulator.collectives.builders.setting import Plan, Setting, merged
from simulator.collectives.schedule import Nodes, Round


def _rails(nodes: Nodes) -> list[tuple[int, ...]]:
    return [tuple(node[place] for node in nodes) for place in range(len(nodes[0]))]


def _chunks(ranks: tuple[int, ...], pieces: int) -> tuple[int, ...]:
    return tuple(rank * pieces + piece for rank in ranks for piece in range(pieces))


def _inside(nodes: Nodes, pieces: int, *, scatter: bool) -> tuple[Round, ...]:
    """Place l of a node answers for the shards of all ranks of rail l."""
    rails = tuple(_chunks(rail, pieces) for rail in _rails(nodes))
    rounds = scatter_rounds if scatter else gather_rounds
    return merged(rounds(node, rails) for node in nodes)


def _across(nodes: Nodes, pieces: int, *, scatter: bool) -> tuple[Round, ...]:
    rounds = scatter_rounds if scatter else gather_rounds
    return merged(rounds(rail, tuple(_chunks((rank,), pieces) for rank in rail)) for rail in _rails(nodes))


def reduce_scatter(setting: Setting) -> Plan:
    """Inside, then across: g + N - 2 rounds."""
    setting.equal_nodes("hierarchical reduce_scatter")
    nodes, pieces = setting.nodes, setting.channels
    rounds = (*_inside(nodes, pieces, scatter=True), *_across(nodes, pieces, scatter=True))
    return Plan(setting.ranks * pieces, rounds)


def all_gather(setting: Setting) -> Plan:
    """Across, then inside: g + N - 2 rounds."""
    setting.equal_nodes("hierarchical all_gather")
    nodes, pieces = setting.nodes, setting.channels
    rounds = (*_across(nodes, pieces, scatter=False), *_inside(nodes, pieces, scatter=False))
    return Plan(setting.ranks * pieces, rounds)


def all_reduce(setting: Setting) -> Plan:
    """reduce_scatter, then all_gather: 2(g + N - 2) rounds."""
    setting.equal_nodes("hierarchical all_reduce")
    return Plan(setting.ranks * setting.channels, (*reduce_scatter(setting).rounds, *all_gather(setting).rounds))
