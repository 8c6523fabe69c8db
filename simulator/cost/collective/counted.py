"""The counted shape (hops, shares of links) of a schedule over a group's nodes, for prices and stepwise runs."""

from functools import lru_cache

from simulator.collectives.closed_form import alpha_beta
from simulator.collectives.schedule import KINDS, Nodes
from simulator.collectives.volume import Shape
from simulator.topology.group import GroupLinks

_AS_SCHEDULE = {"multicast": "nvls"}


@lru_cache(maxsize=512)
def _nodes(ranks: int, per_node: int) -> Nodes:
    return tuple(tuple(range(at, min(at + per_node, ranks))) for at in range(0, ranks, per_node))


def counted(links: GroupLinks, op: str, name: str) -> Shape:
    """What `name` does on this group, nodes filled in order; ScheduleError for what it cannot do there."""
    kind = next(kind for kind in KINDS if kind == op)
    nodes = _nodes(links.ranks, links.ranks_per_node) if links.nodes > 1 else None
    return alpha_beta(kind, _AS_SCHEDULE.get(name, name), links.ranks, nodes=nodes)
