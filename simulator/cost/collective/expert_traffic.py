"""Bytes that expert dispatch and combine move, from routing alone.

Low-latency kernels send every (token, expert) copy on its own; normal kernels send a token once to each node that
needs it and there once to each rank that needs it: the expected number of distinct destinations for even routing, as
many as there can be for balanced routing, or a matrix of bytes for routing that is not even. Sources of the byte
counts: DeepEP csrc/kernels and tests (2026-07), README of TensorRT-LLM's NVLink all-to-all (1.3).
"""

from dataclasses import dataclass
from math import ceil, comb

import numpy as np
from numpy.typing import NDArray

from simulator.errors import ScheduleError
from simulator.topology.group import GroupLinks

# Bytes per element of what travels, scales included: fp8 with one fp32 per 128, nvfp4 with one fp8 per 16.
ELEMENT_BYTES: dict[str, float] = {"bf16": 2.0, "bfloat16": 2.0, "fp8": 1.0 + 4.0 / 128.0, "nvfp4": 0.5 + 1.0 / 16.0}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that the busiest rank sends in one phase, and what its sender warps handle."""

    scale_up_bytes: float
    network_bytes: float
    counted_bytes: float
    """As the kernels' own tests count for their bandwidth: every copy, local ones included."""
    tokens_per_sender: float
    crowd: float = 1.0
    """Nodes that contend for the receivers; 1 where routing is limited to a few nodes (kernels are tuned for it)."""
    copies: float = 0.0
    """Copies of tokens that a rank's SMs write, local ones included (kernels that are bound by their SMs)."""
    copied_bytes: float = 0.0


def distinct(bins: float, experts: float, topk: float) -> float:
    """Expected number of `bins` (ranks or nodes) that hold at least one of `topk` different experts, drawn evenly.

    >>> round(distinct(8, 256, 8), 2)
    5.29
    """
    total, inside, draws = round(experts), round(experts / bins), round(topk)
    if total < bins or draws > total:
        return min(bins, topk)
    return bins * (1.0 - comb(total - inside, draws) / comb(total, draws))


def _senders(links: GroupLinks, experts: float) -> float:
    # Low-latency kernels give each SM ceil(experts / SMs) experts and start no more SMs than that needs.
    return ceil(experts / ceil(experts / max(links.device.sm_count, 1)))


def traffic(
    links: GroupLinks,
    kernel: str,
    phase: str,
    *,
    tokens: float,
    hidden: float,
    topk: float,
    experts: float,
    dtype: str,
    node_limit: float | None = None,
    balanced: bool = False,
) -> Traffic:
    """What one rank sends for `tokens` of its own under even routing.

    `node_limit`: a token's experts lie on at most so many nodes (DeepSeek-V3's group-limited routing: 4).
    `balanced`: a token's experts lie on as many ranks as they can, as some benchmarks choose them.
    """
    n, nodes, per_node = links.ranks, links.nodes, links.ranks_per_node
    if phase == "prepare":
        return Traffic(0.0, 0.0, 0.0, 0.0)
    copy = hidden * (2.0 if phase == "combine" else ELEMENT_BYTES[dtype])
    remote = (n - per_node) / n
    if "low_latency" in kernel:
        sent = tokens * topk * copy
        if kernel.endswith("rdma"):
            return Traffic(0.0, sent * (n - 1) / n, sent, tokens / _senders(links, experts), n / 8)
        inside = sent * (per_node - 1) / n
        return Traffic(inside, sent * remote, sent, tokens / _senders(links, experts), nodes)
    reached = (lambda bins: min(bins, topk)) if balanced else (lambda bins: distinct(bins, experts, topk))
    spread = reached(nodes) if nodes > 1 else 1.0
    spread = min(spread, node_limit) if node_limit else spread
    copies = tokens * reached(n)
    if kernel == "deepep_pcie":
        # Every copy crosses the sender's PCIe port, to a peer's memory or to the NIC; its test counts every copy.
        return Traffic(copies * copy * (n - 1) / n, 0.0, copies * copy, 0.0)
    inside = copies * copy * (per_node - 1) / per_node
    across = tokens * copy * spread * (nodes - 1) / nodes
    counted = tokens * copy * spread if nodes > 1 else copies * copy
    return Traffic(inside, across, counted, 0.0, 1.0 if node_limit else nodes, copies, copies * copy)


def busiest(links: GroupLinks, pair_bytes: tuple[tuple[float, ...], ...], even: Traffic) -> Traffic:
    """Traffic of the rank that sends or receives most, inside nodes and across them, from a matrix of bytes."""
    matrix: NDArray[np.float64] = np.asarray(pair_bytes, dtype=np.float64)
    if matrix.shape != (links.ranks, links.ranks) or not np.isfinite(matrix).all() or (matrix < 0).any():
        raise ScheduleError(
            where="pair_bytes",
            given=f"shape {matrix.shape}",
            rule=f"must be {links.ranks} by {links.ranks}, finite, not negative",
        )
    node = np.arange(links.ranks) // links.ranks_per_node
    same = node[:, None] == node[None, :]
    within = np.where(same & ~np.eye(links.ranks, dtype=bool), matrix, 0.0)
    beyond = np.where(same, 0.0, matrix)
    inside, across = (float(max(part.sum(axis=0).max(), part.sum(axis=1).max())) for part in (within, beyond))
    counted = float(matrix.sum(axis=1).max())
    # What the SMs copy rises with the busiest rank's part of the bytes.
    more = inside / even.scale_up_bytes if even.scale_up_bytes else 1.0
    return Traffic(
        inside, across, counted, even.tokens_per_sender, even.crowd, even.copies * more, even.copied_bytes * more
    )
