"""The time of one collective by one algorithm and protocol, from fitted parameters and the group's links.

    t = launch + hops inside * hop + hops across * network hop + fill + max(wire inside, wire across) + own copy

Rings and trees pipeline their rounds, so the slower of the two kinds of link carries the message while the
other is hidden. `fill` is what starting the pipeline costs once chunks are large (Thakur et al. 2005,
doi:10.1177/1094342005051521, for the ring and tree step counts; Sanders et al. 2009,
doi:10.1016/j.parco.2009.09.001, for the two-tree bandwidth).
"""

from dataclasses import dataclass, replace
from math import log2

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collective.counted import counted
from simulator.cost.collective.facts import Protocol
from simulator.cost.collective.parameters import (
    NetworkStage,
    Parameters,
    Platform,
    Stage,
    network_stages,
    platform_name,
)
from simulator.errors import ScheduleError
from simulator.topology.group import GroupLinks

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """What an algorithm does on a group, for a message of one byte."""

    inside_hops: float
    across_hops: float
    inside_wire: float
    """Bytes that one GPU sends over its scale-up link."""
    across_wire: float
    """Bytes that one NIC sends."""
    own_copy: float
    """Bytes that a rank copies for itself."""
    hop_bytes: float = 0.0
    """Bytes that one NIC sends in one dependent step."""


def _ring(op: str, n: int, nodes: int, per_node: int) -> Shape:
    passes = 2 if op == "all_reduce" else 1
    steps, across = passes * (n - 1), passes * (nodes - 1)
    if op == "broadcast":
        return Shape(n - nodes, across, 1.0, 1.0 / per_node if nodes > 1 else 0.0, 0.0, 1.0 / n)
    wire = steps / n
    if nodes == 1:
        return Shape(steps, 0.0, wire, 0.0, 1.0 / n, 1.0 / n)
    # Each channel leaves the node at another GPU, which sends that channel's part by its NIC and not inside.
    inside = wire * (per_node - 1) / per_node
    return Shape(steps - across, across, inside, wire / per_node, 1.0 / n, 1.0 / (n * per_node))


def _tree(nodes: int, per_node: int) -> Shape:
    # Two trees, half the message each, chains inside the node; two nodes exchange halves, more send up and down.
    across = 0.0 if nodes == 1 else (1.0 if nodes == 2 else 2.0) / per_node
    inside = 0.0 if per_node == 1 else 2.0 * (per_node - 1) / per_node if nodes == 1 else 2.0
    return Shape(2.0 * (per_node - 1), 2.0 * log2(nodes), inside, across, 0.0, 1.0 / per_node)


def _nvls(op: str, n: int, nodes: int, per_node: int) -> Shape:
    wire = 1.0 if op == "all_reduce" else (n - 1) / n
    across = 0.0 if nodes == 1 else (1.0 if nodes == 2 else 2.0) / per_node
    return Shape(1.0, 2.0 * log2(nodes), wire, across, 0.0, 1.0 / per_node)


MESSAGE_SHARE = 0.1
"""Grouped sends do not wait for each other: each message after the first costs this part of a network hop.

An assumption (a proxy posts about one message per 0.5 us): no all_to_all over several nodes was measured here.
"""


def _exchange(n: int, per_node: int) -> Shape:
    others = n - per_node
    across = 1.0 + MESSAGE_SHARE * (others - 1) if others else 0.0
    return Shape(per_node - 1.0, across, (per_node - 1) / n, others / n, 1.0 / n, 1.0 / n)


def shape_of(algorithm: str, op: str, links: GroupLinks) -> Shape:
    """Hops and bytes of `algorithm` on this group; ScheduleError for a pair that does not exist."""
    n, nodes, per_node = links.ranks, links.nodes, links.ranks_per_node
    match op, algorithm:
        case ("send_recv", "direct"):
            return Shape(float(nodes == 1), float(nodes > 1), float(nodes == 1), float(nodes > 1), 0.0, 1.0)
        case ("all_to_all", "pairwise" | "two_level"):
            return _exchange(n, per_node)
        case ("all_reduce", "tree"):
            return _tree(nodes, per_node)
        case (("all_reduce" | "all_gather" | "reduce_scatter"), ("nvls" | "nvls_tree")):
            return _nvls(op, n, nodes, per_node)
        case (("all_reduce" | "all_gather" | "reduce_scatter" | "broadcast"), "ring"):
            return _ring(op, n, nodes, per_node)
        case _ if algorithm in COUNTED:
            form = counted(links, op, algorithm)
            per_hop = form.nic_share / form.network_hops if form.network_hops else 0.0
            return Shape(form.hops, form.network_hops, form.port_share, form.nic_share, 1.0 / n, per_hop)
        case _:
            raise ScheduleError(given=f"{op} by {algorithm!r}", rule="this op has no such algorithm with a price")


COUNTED = ("hierarchical", "halving_doubling", "pat", "direct", "one_shot", "two_shot")
"""Algorithms the tuner never picks here: the ring's stages over the hops and shares of their schedule."""
STAGE_OF: dict[str, str] = {"ring": "ring", "tree": "ring", "nvls": "nvls", "nvls_tree": "nvls"} | dict.fromkeys(
    COUNTED, "ring"
)
GROUPED = ("all_to_all", "send_recv")
"""Ops that NCCL runs as grouped sends."""
FITTED_OP: dict[str, str] = {"broadcast": "all_gather", "send_recv": "all_to_all"}


SOCKET_GPUS = 4.0
"""GPUs below one socket of a PCIe box (dual-socket boxes of eight: Supermicro, Dell and HPE guides of 2024)."""


def scale_up_rate(links: GroupLinks, platform: Platform) -> float:
    """Bytes per second that one GPU can send to the others of its node, all pairs of the group together.

    On a mesh a group of n GPUs uses n - 1 of the links; on a shared bus more GPUs get less each.
    """
    peers = max(links.ranks_per_node - 1, 1)
    rate = min(links.scale_up_bytes_per_s, links.pair_bytes_per_s * peers)
    n = float(max(links.ranks_per_node, 2))
    near, far = 2.0 / min(n, SOCKET_GPUS), SOCKET_GPUS / max(n, SOCKET_GPUS)
    return float(rate * near**platform.contention * far**platform.contention_far)


def stage_of(platform: Platform, op: str, algorithm: str, protocol: Protocol) -> Stage:
    """The fitted stage that runs this algorithm and protocol."""
    name = f"exchange_{protocol}" if op in GROUPED else f"{STAGE_OF[algorithm]}_{protocol}"
    return platform.stages[name]


def network_stage(parameters: Parameters, links: GroupLinks, op: str, protocol: Protocol) -> NetworkStage:
    """What the network adds; grouped sends start as LL does and stream as Simple does."""
    stages = network_stages(links, parameters.networks)
    if op not in GROUPED:
        return stages[protocol]
    return replace(stages["ll"], efficiency=stages["simple"].efficiency, congestion=stages["simple"].congestion)


def stage_times(
    links: GroupLinks, op: str, algorithm: str, protocol: Protocol, message_bytes: Floats, parameters: Parameters
) -> Floats:
    """Seconds for each message, launch included, mode "graph"; nothing here knows which algorithm is the best."""
    name, _ = platform_name(links, parameters.platforms)
    platform = parameters.platforms[name]
    shape = shape_of(algorithm, op, links)
    stage = stage_of(platform, op, algorithm, protocol)
    fitted_op = FITTED_OP.get(op, op)
    share = message_bytes / links.ranks
    time = platform.launch_s[fitted_op] + shape.inside_hops * stage.hop_s + stage.fill(share)
    wire = np.zeros_like(message_bytes)
    if shape.inside_wire and links.ranks_per_node > 1:
        rate = scale_up_rate(links, platform)
        wire = message_bytes * shape.inside_wire / (rate * stage.efficiency[fitted_op])
        time = time + message_bytes * shape.own_copy / (rate * platform.copy_efficiency[fitted_op])
    if shape.across_hops:
        network = network_stage(parameters, links, op, protocol)
        per_nic = message_bytes * shape.across_wire
        across_rate = links.nic_bytes_per_s * network.share(links.nodes) / oversubscribed(links)
        per_hop = message_bytes * shape.hop_bytes
        time = time + shape.across_hops * (links.network_latency_s + network.hop(per_hop, links.nodes))
        wire = np.maximum(wire, per_nic / across_rate)
    return np.asarray(time + wire, dtype=np.float64)


def oversubscribed(links: GroupLinks) -> float:
    """How much slower the part of the traffic that leaves the leaf runs; 1 on a non-blocking fabric."""
    return max(links.oversubscription, 1.0)
