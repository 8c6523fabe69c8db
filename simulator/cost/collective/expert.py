"""Dispatch and combine of tokens over expert-parallel ranks, as DeepEP, TensorRT-LLM and UCCL do it.

Bytes follow from routing: low-latency kernels send every (token, expert) copy on its own; normal kernels send a token
once to each node that needs it and there once to each rank that needs it (expected numbers of distinct
destinations for even routing, or a matrix of bytes for routing that is not even). Time is

    base + level * log2(nodes) + hidden * hidden_s + tokens * token_s
        + max(NVLink bytes / rate, network bytes / rate, tokens / senders)

with rates as fitted shares of the links. Sources of the byte counts: DeepEP csrc/kernels and tests (2026-07),
README of TensorRT-LLM's NVLink all-to-all (1.3).
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, comb, log2
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collective.parameters import shipped
from simulator.cost.price import Bound, Price
from simulator.errors import ScheduleError
from simulator.topology.group import GroupLinks

Kernel = Literal[
    "deepep_low_latency", "deepep_low_latency_rdma", "deepep_normal", "deepep_elastic",
    "trtllm_two_sided", "trtllm_one_sided", "uccl_low_latency", "uccl_normal",
]  # fmt: skip
Phase = Literal["dispatch", "combine", "combine_low_precision", "prepare"]
KERNELS: tuple[str, ...] = (
    "deepep_low_latency", "deepep_low_latency_rdma", "deepep_normal", "deepep_elastic",
    "trtllm_two_sided", "trtllm_one_sided", "uccl_low_latency", "uccl_normal",
)  # fmt: skip
PHASES: tuple[str, ...] = ("dispatch", "combine", "combine_low_precision", "prepare")
# Bytes per element of what travels, scales included: fp8 with one fp32 per 128, nvfp4 with one fp8 per 16.
ELEMENT_BYTES: dict[str, float] = {"bf16": 2.0, "bfloat16": 2.0, "fp8": 1.0 + 4.0 / 128.0, "nvfp4": 0.5 + 1.0 / 16.0}
DEFAULT_SMS = 20.0
"""SMs that DeepEP's normal kernels take where nothing is said."""


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
) -> Traffic:
    """What one rank sends for `tokens` of its own under even routing.

    `node_limit`: a token's experts lie on at most so many nodes (DeepSeek-V3's group-limited routing: 4).
    """
    n, nodes = links.ranks, links.nodes
    if phase == "prepare":
        return Traffic(0.0, 0.0, 0.0, 0.0)
    copy = hidden * (2.0 if phase == "combine" else ELEMENT_BYTES[dtype])
    remote = (n - links.ranks_per_node) / n
    if "low_latency" in kernel:
        sent = tokens * topk * copy
        if kernel.endswith("rdma"):
            return Traffic(0.0, sent * (n - 1) / n, sent, tokens / _senders(links, experts), n / 8)
        inside = sent * (links.ranks_per_node - 1) / n
        return Traffic(inside, sent * remote, sent, tokens / _senders(links, experts), nodes)
    spread = distinct(nodes, experts, topk) if nodes > 1 else 1.0
    spread = min(spread, node_limit) if node_limit else spread
    ranks = distinct(n, experts, topk)
    inside = tokens * copy * ranks * (links.ranks_per_node - 1) / links.ranks_per_node
    across = tokens * copy * spread * (nodes - 1) / nodes
    counted = tokens * copy * (spread if nodes > 1 else ranks)
    return Traffic(inside, across, counted, 0.0, 1.0 if node_limit else nodes)


def parameters_of(kernel: str, phase: str, links: GroupLinks) -> tuple[dict[str, float], bool]:
    """Fitted numbers of a kernel's phase, and whether they were fitted on this GPU generation."""
    blocks = shipped().expert
    exact = f"{kernel} {phase} {links.device.generation}"
    for key in (exact, f"{kernel} {phase} hopper", f"{kernel} {phase} blackwell", f"{kernel} {phase} cdna3"):
        if key in blocks:
            return dict(blocks[key]), key == exact
    raise ScheduleError(
        where="expert all_to_all", given=f"{kernel} {phase}", rule="this kernel has no such phase",
        way_out=f"kernels: {', '.join(KERNELS)}; phases: {', '.join(PHASES)}",
    )  # fmt: skip


def seconds(
    links: GroupLinks, fitted: dict[str, float], sent: Traffic, tokens: float, sms: float, hidden: float
) -> float:
    """Time of one phase from its traffic."""
    inside = 0.0
    if sent.scale_up_bytes:
        rate = min(links.scale_up_bytes_per_s, links.pair_bytes_per_s * max(links.ranks_per_node - 1, 1))
        inside = sent.scale_up_bytes / (rate * fitted["scale_up_share"])
        if fitted.get("sm_bytes_per_s"):
            # An SM that relays between NIC and NVLink handles the network's bytes several times over.
            handled = sent.scale_up_bytes + fitted["relay"] * sent.network_bytes
            inside += handled / (sms * fitted["sm_bytes_per_s"])
    across = 0.0
    if sent.network_bytes:
        slower = 1.0 + fitted["congestion"] * max(log2(max(sent.crowd, 1.0)) - 1.0, 0.0)
        across = sent.network_bytes * slower / (links.nic_bytes_per_s * fitted["network_share"])
    senders = sent.tokens_per_sender * fitted.get("sender_token_s", 0.0)
    levels = log2(links.nodes) if links.nodes > 1 else 0.0
    start = fitted["base_s"] + fitted["level_s"] * levels + fitted["hidden_s"] * hidden
    return start + tokens * fitted["token_s"] + max(inside, across, senders)


def _check(links: GroupLinks, kernel: str, phase: str, dtype: str, numbers: dict[str, float]) -> None:
    for what, given, known in (
        ("kernel", kernel, KERNELS),
        ("phase", phase, PHASES),
        ("dtype", dtype, tuple(ELEMENT_BYTES)),
    ):
        if given not in known:
            raise ScheduleError(
                where=f"expert all_to_all: {what}", given=repr(given), rule=f"is none of {', '.join(known)}"
            )
    for name, value in numbers.items():
        if not 0.0 <= value < 2.0**63 or (value < 1.0 and name != "tokens_per_rank"):
            raise ScheduleError(
                where=f"expert all_to_all: {name}", given=f"{value:g}", rule="must be at least 1 and below 2**63"
            )
    if numbers["topk"] > numbers["experts"]:
        raise ScheduleError(
            where="expert all_to_all: topk",
            given=f"{numbers['topk']:g}",
            rule=f"more than the {numbers['experts']:g} experts",
        )
    if links.nodes > 1 and not links.nic_bytes_per_s > 0.0:
        raise ScheduleError(where="nic_bytes_per_s", given="0", rule="ranks on several nodes need a network")


@lru_cache(maxsize=1 << 16)
def expert_all_to_all_price(
    links: GroupLinks,
    *,
    phase: Phase = "dispatch",
    kernel: Kernel = "deepep_low_latency",
    tokens_per_rank: float,
    hidden: float,
    topk: float,
    experts: float,
    dtype: str = "fp8",
    sms: float = DEFAULT_SMS,
    node_limit: float | None = None,
    pair_bytes: tuple[tuple[float, ...], ...] | None = None,
) -> Price:
    """The price of one dispatch or combine over the group `links` (its ranks are the EP ranks).

    `dtype` is what a dispatch sends; a combine sends bf16. `pair_bytes[i][j]`: bytes from rank i to rank j for
    routing that is not even (square, ranks in order, node by node). Raises ScheduleError for what cannot be.
    """
    numbers = {"tokens_per_rank": tokens_per_rank, "hidden": hidden, "topk": topk, "experts": experts, "sms": sms}
    _check(links, kernel, phase, dtype, numbers)
    if tokens_per_rank == 0.0 or links.ranks == 1:
        return Price(0.0, "roofline", 0.0, "latency")
    fitted, exact = parameters_of(kernel, phase, links)
    shape = {"tokens": tokens_per_rank, "hidden": hidden, "topk": topk, "experts": experts}
    sent = traffic(links, kernel, phase, **shape, dtype=dtype, node_limit=node_limit)
    if pair_bytes is not None:
        sent = busiest(links, pair_bytes, sent)
    time = seconds(links, fitted, sent, tokens_per_rank, sms, hidden)
    bound: Bound = "latency" if fitted["base_s"] > 0.5 * time else "link"
    return Price(time, "fitted", fitted["error"] * (1.0 if exact else 2.0), bound)


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
    return Traffic(inside, across, float(matrix.sum(axis=1).max()), even.tokens_per_sender, even.crowd)
