"""What a schedule costs in counts: bytes on each pair and port, rounds, and its longest chain of transfers.

Shares are fractions of the *message*: the buffer of an all_reduce or broadcast, the whole gathered or scattered
buffer of an all_gather or reduce_scatter, and what one rank sends in all in an all_to_all (the sizes that nccl-tests
prints).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.schedule import Nodes, Schedule

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a collective's time: launch + hops x latency + message x share / bandwidth.

    An algorithm that overlaps its rounds (a pipeline, grouped sends) takes about
    `hops * alpha + network_hops * alpha_network + bytes / bandwidth`; one that waits after each round pays a latency
    for each of `rounds`.
    """

    rounds: int
    hops: int
    """Transfers inside a node on the longest chain of transfers that wait for each other (through a switch reducer
    counts two); the chain is one with the most transfers between nodes."""
    network_hops: int
    """Transfers between nodes on that chain."""
    port_share: float
    """Of the message, through the busiest rank's scale-up port, in the direction that carries more."""
    nic_share: float
    """Of the message, between nodes, for the busiest rank, in the direction that carries more."""
    node_share: float
    """Of the message, between nodes, for the busiest node: what counts where ranks share NICs."""


def even_nodes(ranks: int, per_node: int) -> Nodes:
    """Ranks in blocks of `per_node`; the last node has what is left."""
    return tuple(tuple(range(first, min(first + per_node, ranks))) for first in range(0, ranks, per_node))


def node_of(nodes: Nodes) -> Ints:
    """Node index of each rank, shape (ranks,)."""
    found = np.zeros(sum(len(node) for node in nodes), dtype=np.int64)
    for index, node in enumerate(nodes):
        found[list(node)] = index
    return found


def chunk_shares(schedule: Schedule, shard_shares: Sequence[float] | Floats | None = None) -> Floats:
    """Share of the message in each chunk, shape (chunks,); shards even unless given, pieces of a shard even."""
    if shard_shares is None:
        parts = schedule.ranks if schedule.kind == "all_to_all" else schedule.shards
        shard_shares = np.full(schedule.shards, 1.0 / parts)
    return np.repeat(np.asarray(shard_shares, dtype=np.float64), schedule.pieces) / schedule.pieces


def transfer_table(schedule: Schedule) -> Ints:
    """All transfers in rows (round, source, destination, chunk), shape (transfers, 4)."""
    rows = [(index, t[0], t[1], t[2]) for index, transfers in enumerate(schedule.rounds) for t in transfers]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def pair_shares(schedule: Schedule, shard_shares: Sequence[float] | Floats | None = None) -> Floats:
    """Share of the message from each vertex to each other, shape (vertices, vertices)."""
    table, shares = transfer_table(schedule), chunk_shares(schedule, shard_shares)
    n = schedule.vertices
    pairs: Floats = np.zeros((n, n))
    np.add.at(pairs, (table[:, 1], table[:, 2]), shares[table[:, 3]])
    return pairs


def shape(schedule: Schedule, nodes: Nodes, shard_shares: Sequence[float] | Floats | None = None) -> Shape:
    """Counted from the schedule, transfer by transfer. Switch reducer k belongs to node k."""
    pairs = pair_shares(schedule, shard_shares)
    n = schedule.ranks
    where = vertex_nodes(schedule, nodes)
    near = np.where(where[:, None] == where[None, :], pairs, 0.0)
    far = pairs - near
    by_node = np.zeros((len(nodes), 2))
    np.add.at(by_node, where[:n], np.stack([far.sum(axis=1), far.sum(axis=0)], axis=1)[:n])
    network_hops, hops = _longest_chain(schedule, where)
    return Shape(
        rounds=len(schedule.rounds),
        hops=hops,
        network_hops=network_hops,
        port_share=_busiest(near, n),
        nic_share=_busiest(far, n),
        node_share=float(by_node.max(initial=0.0)),
    )


def vertex_nodes(schedule: Schedule, nodes: Nodes) -> Ints:
    """Node index of each vertex, switch reducers after the ranks."""
    return np.concatenate([node_of(nodes), np.arange(schedule.switches, dtype=np.int64)])


def _busiest(pairs: Floats, ranks: int) -> float:
    both = np.maximum(pairs.sum(axis=1), pairs.sum(axis=0))[:ranks]
    return float(both.max(initial=0.0))


def _longest_chain(schedule: Schedule, where: Ints) -> tuple[int, int]:
    """(transfers between nodes, inside nodes) of the chain with the most of the first, then of the second."""
    place = where.tolist()
    depth: dict[tuple[int, int], tuple[int, int]] = {}
    longest = (0, 0)
    for transfers in schedule.rounds:
        reached: dict[tuple[int, int], tuple[int, int]] = {}
        for source, destination, chunk, _ in transfers:
            far, near = depth.get((source, chunk), (0, 0))
            there = (far, near + 1) if place[source] == place[destination] else (far + 1, near)
            key = (destination, chunk)
            reached[key] = max(reached.get(key, depth.get(key, (0, 0))), there)
        depth.update(reached)
        longest = max(longest, max(reached.values(), default=(0, 0)))
    return longest
