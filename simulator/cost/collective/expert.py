"""Dispatch and combine of tokens over expert-parallel ranks, as DeepEP, TensorRT-LLM and UCCL do it.

Bytes follow from routing (`expert_traffic`). Time is

    base + level * log2(nodes) + rank_level * log2(ranks in the node) + hidden * hidden_s + tokens * token_s
        + norm(NVLink bytes / rate, network bytes / rate, SM time, tokens / senders)

with rates as fitted shares of the links. Normal kernels run on a few SMs, which copy at a rate of their own: their time
falls as 1 / SMs until a link is full, so that NVLink, network and SMs overlap (a norm of high order, near the maximum).
Once a message is longer than what queues hide, contention for the receivers shows (`congestion`).
"""

from functools import lru_cache
from math import log2
from typing import Literal

from simulator.cost.collective.expert_traffic import ELEMENT_BYTES, Traffic, busiest, distinct, traffic
from simulator.cost.collective.parameters import shipped
from simulator.cost.price import Bound, Price
from simulator.errors import ScheduleError
from simulator.topology.group import GroupLinks

__all__ = [
    "DEFAULT_SMS", "ELEMENT_BYTES", "KERNELS", "PHASES", "Kernel", "Phase", "Traffic", "busiest", "distinct",
    "expert_all_to_all_price", "notify_seconds", "parameters_of", "seconds", "traffic",
]  # fmt: skip

Kernel = Literal[
    "deepep_low_latency", "deepep_low_latency_rdma", "deepep_normal", "deepep_elastic",
    "deepep_pcie", "trtllm_two_sided", "trtllm_one_sided", "uccl_low_latency", "uccl_normal",
]  # fmt: skip
Phase = Literal["dispatch", "combine", "combine_low_precision", "prepare"]
KERNELS: tuple[str, ...] = (
    "deepep_low_latency", "deepep_low_latency_rdma", "deepep_normal", "deepep_elastic",
    "deepep_pcie", "trtllm_two_sided", "trtllm_one_sided", "uccl_low_latency", "uccl_normal",
)  # fmt: skip
PHASES: tuple[str, ...] = ("dispatch", "combine", "combine_low_precision", "prepare")
DEFAULT_SMS = 20.0
"""SMs that DeepEP's normal kernels take where nothing is said."""


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
    across = 0.0
    if sent.network_bytes:
        slower = 1.0 + fitted["congestion"] * _contention(fitted, sent)
        across = sent.network_bytes * slower / (links.nic_bytes_per_s * fitted["network_share"])
    copying = 0.0
    if fitted.get("sm_bytes_per_s") and sent.copied_bytes:
        # Over several nodes half of a channel's SMs relay between NIC and NVLink, so that a copy costs more.
        relayed = fitted["relay"] if links.nodes > 1 else 1.0
        by_copy = sent.copies * fitted["sm_copy_s"] + sent.copied_bytes / fitted["sm_bytes_per_s"]
        copying = (tokens * fitted["sm_token_s"] + by_copy * relayed) / sms
    senders = sent.tokens_per_sender * fitted.get("sender_token_s", 0.0)
    levels = log2(links.nodes) if links.nodes > 1 else 0.0
    start = fitted["base_s"] + fitted["level_s"] * levels + fitted["hidden_s"] * hidden
    start += fitted["rank_level_s"] * log2(links.ranks_per_node)
    return start + tokens * fitted["token_s"] + _overlapped((inside, across, copying, senders))


def _contention(fitted: dict[str, float], sent: Traffic) -> float:
    # None between two nodes, and none while queues hide it.
    crowd = max(log2(max(sent.crowd, 1.0)) - 1.0, 0.0)
    return crowd / (1.0 + (fitted["queue_bytes"] / sent.network_bytes) ** 2)


OVERLAP_ORDER = 5.0
"""Order of the norm by which parts that overlap add up: two equal parts take 15 % longer than one."""


def _overlapped(parts: tuple[float, ...]) -> float:
    longest = max(parts)
    return (
        longest * sum((part / longest) ** OVERLAP_ORDER for part in parts) ** (1.0 / OVERLAP_ORDER) if longest else 0.0
    )


def notify_seconds(links: GroupLinks, fitted: dict[str, float], sent: Traffic, time_s: float) -> float:
    """Time of the separate kernel in which ranks tell each other how much comes; 0 inside one node.

    It waits for the slowest rank: a share of the phase's time, and what contention the phase's queues hid from it.
    """
    if links.nodes == 1 or not fitted.get("notify_level_s"):
        return 0.0
    hidden = 0.0
    if sent.network_bytes:
        crowd = max(log2(max(sent.crowd, 1.0)) - 1.0, 0.0)
        rate = links.nic_bytes_per_s * fitted["network_share"]
        late = fitted["congestion"] * (crowd - _contention(fitted, sent))
        hidden = sent.network_bytes * late / rate
    return fitted["notify_level_s"] * log2(links.nodes) + fitted["notify_share"] * time_s + hidden


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
    balanced: bool = False,
) -> Price:
    """The price of one dispatch or combine over the group `links` (its ranks are the EP ranks).

    `dtype` is what a dispatch sends; a combine sends bf16. `pair_bytes[i][j]`: bytes from rank i to rank j for
    routing that is not even (square, ranks in order, node by node). `balanced`: each token's experts lie on as many
    ranks as they can. Raises ScheduleError for what cannot be.
    """
    numbers = {"tokens_per_rank": tokens_per_rank, "hidden": hidden, "topk": topk, "experts": experts, "sms": sms}
    _check(links, kernel, phase, dtype, numbers)
    if tokens_per_rank == 0.0 or links.ranks == 1:
        return Price(0.0, "roofline", 0.0, "latency")
    fitted, exact = parameters_of(kernel, phase, links)
    shape = {"tokens": tokens_per_rank, "hidden": hidden, "topk": topk, "experts": experts}
    sent = traffic(links, kernel, phase, **shape, dtype=dtype, node_limit=node_limit, balanced=balanced)
    if pair_bytes is not None:
        sent = busiest(links, pair_bytes, sent)
    time = seconds(links, fitted, sent, tokens_per_rank, sms, hidden)
    bound: Bound = "latency" if fitted["base_s"] > 0.5 * time else "link"
    return Price(time, "fitted", fitted["error"] * (1.0 if exact else 2.0), bound)
