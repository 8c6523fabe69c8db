"""all_to_all: each rank has something of its own for each other."""

from simulator.collectives.builders.setting import Plan, Setting
from simulator.collectives.schedule import Round, Transfer


def pairwise(setting: Setting) -> Plan:
    """n - 1 rounds; in round r rank i sends to i + r, so that each port has one flow out and one in.

    The order of NCCL's grouped send and receive, one peer distance a round.
    """
    n = setting.ranks
    rounds = tuple(
        tuple(Transfer(i, (i + r) % n, i * n + (i + r) % n, reduce=False) for i in range(n)) for r in range(1, n)
    )
    return Plan(n * n, rounds)


def two_level(setting: Setting) -> Plan:
    """Inside the node to the rank on the receiver's rail, then along the rail.

    g - 1 rounds inside (each a message of N chunks a rank), then N - 1 between nodes (g chunks a rank), so that a
    NIC sends N - 1 messages, not n - g. The relay is that of NCCL's PXN (2.12, 2022) and of DeepEP's normal mode.
    """
    count, size = setting.equal_nodes("two_level all_to_all")
    n, nodes = setting.ranks, setting.nodes

    def inside(step: int) -> Round:
        return tuple(
            Transfer(node[a], node[(a + step) % size], node[a] * n + far[(a + step) % size], reduce=False)
            for node in nodes
            for a in range(size)
            for far in nodes
        )

    def across(step: int) -> Round:
        return tuple(
            Transfer(nodes[x][b], nodes[(x + step) % count][b], first * n + nodes[(x + step) % count][b], reduce=False)
            for x in range(count)
            for b in range(size)
            for first in nodes[x]
        )

    return Plan(n * n, (*(inside(s) for s in range(1, size)), *(across(s) for s in range(1, count))))
