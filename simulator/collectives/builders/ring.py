"""Rings: bandwidth-optimal, with a latency that grows with the number of ranks.

Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
J. Parallel Distrib. Comput. 69 (2009) 117-124, doi:10.1016/j.jpdc.2008.09.002.
"""

from itertools import pairwise
from math import gcd

from simulator.collectives.builders.setting import Plan, Setting, merged, staggered
from simulator.collectives.schedule import Nodes, Round, Transfer


def ring_orders(nodes: Nodes, channels: int) -> tuple[tuple[int, ...], ...]:
    """The order of ranks round the ring of each channel.

    On one node channel k steps by the k-th stride coprime to n, so that on a mesh of links channels use different
    ones. Over several nodes each node is walked through once; channel k enters the nodes at local rank k and leaves
    at k - 1, walking odd nodes backwards, so that each hop between nodes stays on one rail (the last hop crosses
    rails where the number of nodes is odd), and k = 0, 1, ... spread over all NICs.
    """
    if len(nodes) == 1:
        n = len(nodes[0])
        strides = [s for s in range(1, max(n, 2)) if gcd(s, n) == 1]
        return tuple(tuple(nodes[0][p * strides[k % len(strides)] % n] for p in range(n)) for k in range(channels))
    return tuple(
        tuple(rank for index, node in enumerate(nodes) for rank in _walk(node, k, backwards=index % 2 == 1))
        for k in range(channels)
    )


def _walk(node: tuple[int, ...], start: int, *, backwards: bool) -> tuple[int, ...]:
    turned = tuple(node[(start + i) % len(node)] for i in range(len(node)))
    return turned[::-1] if backwards else turned


def gather_rounds(order: tuple[int, ...], chunks: tuple[tuple[int, ...], ...]) -> tuple[Round, ...]:
    """The rank at place p begins with chunks[p]; after n - 1 rounds each holds all."""
    n = len(order)
    return tuple(
        tuple(
            Transfer(order[p], order[(p + 1) % n], chunk, reduce=False)
            for p in range(n)
            for chunk in chunks[(p - r) % n]
        )
        for r in range(n - 1)
    )


def scatter_rounds(order: tuple[int, ...], chunks: tuple[tuple[int, ...], ...]) -> tuple[Round, ...]:
    """Each begins with a term of all; after n - 1 rounds the rank at place p holds the sum of chunks[p]."""
    n = len(order)
    return tuple(
        tuple(
            Transfer(order[p], order[(p + 1) % n], chunk, reduce=True)
            for p in range(n)
            for chunk in chunks[(p - 1 - r) % n]
        )
        for r in range(n - 1)
    )


def _shares(setting: Setting) -> list[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
    """For each channel: its order, and the chunk of each place (piece `channel` of that rank's shard)."""
    orders = ring_orders(setting.nodes, setting.channels)
    return [(order, tuple((r * setting.channels + k,) for r in order)) for k, order in enumerate(orders)]


def all_gather(setting: Setting) -> Plan:
    """n - 1 rounds; each rank sends (n - 1) / n of the gathered bytes."""
    return Plan(setting.ranks * setting.channels, merged(gather_rounds(o, c) for o, c in _shares(setting)))


def reduce_scatter(setting: Setting) -> Plan:
    """n - 1 rounds; each rank sends (n - 1) / n of the bytes it begins with."""
    return Plan(setting.ranks * setting.channels, merged(scatter_rounds(o, c) for o, c in _shares(setting)))


def all_reduce(setting: Setting) -> Plan:
    """A reduce_scatter, then an all_gather: 2(n - 1) rounds, 2(n - 1) / n of the bytes."""
    rounds = merged(scatter_rounds(o, c) + gather_rounds(o, c) for o, c in _shares(setting))
    return Plan(setting.ranks * setting.channels, rounds)


def broadcast(setting: Setting) -> Plan:
    """A chain from rank 0, `pipeline` pieces one behind the other in each channel."""
    parts = []
    for k, order in enumerate(ring_orders(setting.nodes, setting.channels)):
        root = order.index(0)
        chain = order[root:] + order[:root]
        pieces = [
            [(Transfer(a, b, k * setting.pipeline + p, reduce=False),) for a, b in pairwise(chain)]
            for p in range(setting.pipeline)
        ]
        parts.append(staggered(pieces))
    return Plan(setting.channels * setting.pipeline, merged(parts))
