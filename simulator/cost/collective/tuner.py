"""What NCCL would choose: its own model of each (algorithm, protocol), and the cheapest.

This is the library's opinion, with the library's constants (`facts`), not our price: where the library is wrong
about its own speed it picks a slower way, and measured curves show the step. Only the choice is taken from here.
"""

from math import log2

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collective import facts
from simulator.cost.collective.facts import Family, Protocol
from simulator.topology.group import GroupLinks

Floats = NDArray[np.float64]
Choice = tuple[str, Protocol]


SEARCH_DOWN_TO = 0.49
"""The search gives up on speeds below this part of the one it has found."""


def family(links: GroupLinks) -> Family:
    """The row of NCCL's tables by compute capability; other makers' libraries are read as Ampere's."""
    capability = links.device.compute_capability
    if links.device.generation.startswith(("cdna", "xe", "davinci")):
        return "ampere"
    if capability < 80:
        return "volta"
    if capability < 90:
        return "ampere"
    return "hopper" if capability < 100 else "blackwell"


def ring_graph(links: GroupLinks) -> tuple[int, float]:
    """Search channels and GB/s per channel of the rings that NCCL's graph search finds.

    The link rate is the device's nominal one, as NCCL reads it from the topology, so that a degraded link
    changes the price and not the choice.
    """
    kind = family(links)
    if links.scale_up in ("pcie", "none"):
        # One channel each way along the PCIe tree, doubled; PCIe gen3 x16 counts 12 GB/s, gen4 24.
        total = 0.75 * links.device.pcie_bytes_per_s / 1e9
        return 2, max(total / 2.0, 1.0)
    nominal = links.device.nvlink_bytes_per_s or links.scale_up_bytes_per_s
    total = max(nominal / 1e9 * facts.LINK_FRACTION[kind], 3.0)
    speeds = facts.SPEEDS_ONE_NODE[kind]
    if links.nodes > 1:
        per_nic = (links.device.nic_bytes_per_s or links.nic_bytes_per_s) / 1e9 * facts.NETWORK_FRACTION
        fitting = [speed for speed in facts.SPEEDS_NODES[kind] if speed <= per_nic + 1e-9] or [per_nic]
        speed = fitting[0]
        channels = max(1, min(links.ranks_per_node, int(total // speed)))
    else:
        # From the highest speed that fits down to about half of it, the one that fills most of the links.
        highest = next((speed for speed in speeds if speed <= total), total)
        tried = [highest, *(speed for speed in speeds if SEARCH_DOWN_TO * highest <= speed < highest)]
        speed = max(tried, key=lambda each: (each * (total // each), each))
        channels = max(1, int(total // speed))
    doubled = speed >= 25 and not (kind in ("hopper", "blackwell") and speed < 50 and channels > 4)
    return (2 * channels, speed / 2) if doubled else (channels, speed)


def _column(nodes: int) -> int:
    return min(nodes, 3) - 1


def _ring_bandwidth(kind: Family, nodes: int, channels: int, bus: float, protocol: Protocol) -> float:
    match protocol:
        case "ll":
            cap = facts.LL_CAP_ONE_NODE[kind] if nodes == 1 else facts.LL_CAP_NODES[_column(nodes)]
            return min(cap, 0.5 * bus)
        case "ll128":
            return min(0.92 * bus, channels * facts.RING_LL128_CAP[kind][_column(nodes)])
        case "simple":
            return bus


def _tree_bandwidth(kind: Family, nodes: int, channels: int, bus: float, protocol: Protocol) -> float:
    plain = min(0.92 * bus, channels * facts.TREE_CAP[kind][_column(nodes)])
    match protocol:
        case "ll":
            cap = facts.LL_CAP_ONE_NODE[kind] if nodes == 1 else facts.LL_CAP_NODES[_column(nodes)]
            return min(plain / 3.8, cap)
        case "ll128":
            share = 7 / 9 if nodes == 1 else 120 / 128
            return min(plain * share, channels * facts.TREE_LL128_CAP[kind][_column(nodes)])
        case "simple":
            return plain


def steps_of(op: str, ranks: int) -> int:
    """Dependent ring steps, and with them bytes on the wire: steps / ranks of the message."""
    return 2 * (ranks - 1) if op == "all_reduce" else ranks - 1


def _ring_latency_us(links: GroupLinks, op: str, index: int, intra: str) -> float:
    steps = steps_of(op, links.ranks)
    over = (2 if op == "all_reduce" else 1) * (links.nodes - 1)
    hop = facts.HARDWARE_LATENCY_US[intra]["ring"][index]
    simple = index == 2
    if links.nodes > 1:
        hop = max(hop, facts.NETWORK_OVERHEAD_US * (3.0 if simple else 1.0))
    row = "tree" if links.ranks_per_node == 1 else "ring"
    net = facts.HARDWARE_LATENCY_US["network"][row][index]
    return facts.BASE_LATENCY_US["ring"][index] + (steps - over) * hop + over * net


def _tree_latency_us(links: GroupLinks, index: int, intra: str) -> float:
    inside = (links.ranks_per_node - 1) * facts.HARDWARE_LATENCY_US[intra]["tree"][index]
    across = log2(links.nodes) * facts.HARDWARE_LATENCY_US["network"]["tree"][index]
    return facts.BASE_LATENCY_US["tree"][index] + 2.0 * (inside + across)


def _correction(message_bytes: Floats, protocol: Protocol) -> Floats:
    table = np.asarray(facts.TREE_CORRECTION[protocol])
    level = np.floor(np.log2(np.maximum(message_bytes, 64.0) / 64.0)).astype(np.int64)
    return np.where(level < len(table), table[np.minimum(level, len(table) - 1)], 1.0)


def nvls_possible(links: GroupLinks) -> bool:
    """NCCL asks for a multicasting switch and more than two GPUs of the node."""
    return links.multicast and links.ranks_per_node > 2 and family(links) in ("hopper", "blackwell")


def _nvls_bandwidth(links: GroupLinks, op: str) -> float:
    kind, heads = family(links), min(8, links.ranks_per_node)
    total = links.device.nvlink_bytes_per_s / 1e9 * facts.LINK_FRACTION[kind]
    n = links.ranks_per_node
    speed = next((s for s in facts.SPEEDS_ONE_NODE[kind] if s * heads <= total * n / (n - 1)), total / heads)
    intra = heads * speed * facts.NVLS_EFFICIENCY[kind] * (heads - 1) / heads
    return intra * (2.0 if op == "all_reduce" else (n - 1) / n)


def tuned_times(links: GroupLinks, op: str, message_bytes: Floats) -> dict[Choice, Floats]:
    """NCCL's own estimate in seconds for every (algorithm, protocol) that it would consider."""
    # Whole-number arrays would cut latencies to whole microseconds.
    message_bytes = np.asarray(message_bytes, dtype=np.float64)
    kind, nodes, n = family(links), links.nodes, links.ranks
    channels, speed = ring_graph(links)
    bus = channels * speed
    # On two nodes a tree counts by its bandwidth inside the node, at most twice the rings' over the NICs.
    inside = links.device.nvlink_bytes_per_s / 1e9 * facts.LINK_FRACTION[kind]
    tree_bus = max(bus, min(2.0 * bus, inside)) if nodes == 2 else bus
    on_nvlink = links.scale_up in ("nvswitch", "nvlink_mesh", "xgmi_mesh")
    intra = "nvlink" if on_nvlink else "pcie"
    times: dict[Choice, Floats] = {}
    for index, protocol in enumerate(facts.PROTOCOLS):
        if protocol == "ll128" and not on_nvlink:
            continue
        algbw = _ring_bandwidth(kind, nodes, channels, bus, protocol) * n / steps_of(op, n)
        latency = _ring_latency_us(links, op, index, intra)
        if op == "all_reduce" and protocol == "simple" and nodes > 1:
            large = message_bytes / (channels * n) >= 64.0
            latency_us = np.where(large, latency * 1.4, latency)
        else:
            latency_us = np.full_like(message_bytes, latency)
        times["ring", protocol] = (latency_us + message_bytes / (1e3 * algbw)) * 1e-6
        if op == "all_reduce":
            algbw_tree = (
                0.5 * _tree_bandwidth(kind, nodes, channels, tree_bus, protocol) * _correction(message_bytes, protocol)
            )
            times["tree", protocol] = (
                _tree_latency_us(links, index, intra) + message_bytes / (1e3 * algbw_tree)
            ) * 1e-6
    if nvls_possible(links):
        times |= _nvls_times(links, op, message_bytes, bus, channels)
    return times


def _nvls_times(links: GroupLinks, op: str, message_bytes: Floats, bus: float, channels: int) -> dict[Choice, Floats]:
    hop = facts.HARDWARE_LATENCY_US["nvlink"]["nvls"][2]
    if links.nodes == 1:
        algbw = _nvls_bandwidth(links, op) * links.ranks / steps_of(op, links.ranks)
        return {("nvls", "simple"): (hop + message_bytes / (1e3 * algbw)) * 1e-6}
    if op != "all_reduce":
        return {}
    kind, column = family(links), _column(links.nodes)
    inter = bus * (2.0 if links.nodes == 2 else 1.0)
    algbw = min(_nvls_bandwidth(links, op), inter, channels * facts.NVLS_TREE_CAP[kind][column])
    algbw *= links.ranks / steps_of(op, links.ranks)
    net = facts.HARDWARE_LATENCY_US["network"]["nvls_tree"][2]
    latency = hop + 2.0 * log2(links.nodes) * net
    return {("nvls_tree", "simple"): (latency + message_bytes / (1e3 * algbw)) * 1e-6}


def choose(links: GroupLinks, op: str, message_bytes: Floats) -> tuple[tuple[Choice, ...], NDArray[np.int64]]:
    """The candidates, and for each message the index of the one NCCL would run (first wins ties)."""
    times = tuned_times(links, op, message_bytes)
    stacked = np.stack([times[key] for key in times])
    return tuple(times), stacked.argmin(axis=0)
