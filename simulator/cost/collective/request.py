"""What may be asked, and the errors for what may not."""

from math import isfinite
from typing import Literal

from simulator.cost.collective.curve import LARGEST_BYTES
from simulator.cost.collective.facts import Protocol
from simulator.errors import ScheduleError
from simulator.topology.group import GroupLinks

Mode = Literal["graph", "eager", "nccl-tests", "one-process"]
MODES: tuple[Mode, ...] = ("graph", "eager", "nccl-tests", "one-process")
OPS: tuple[str, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_recv")
ALGORITHMS: dict[str, tuple[str, ...]] = {
    "all_reduce": ("ring", "tree", "nvls", "nvls_tree", "one_shot", "two_shot", "hierarchical", "halving_doubling"),
    "all_gather": ("ring", "nvls", "hierarchical", "direct", "pat"),
    "reduce_scatter": ("ring", "nvls", "hierarchical", "direct", "pat"),
    "all_to_all": ("pairwise", "two_level"),
    "broadcast": ("ring",),
    "send_recv": ("direct",),
}
LIBRARIES: tuple[str, ...] = ("nccl", "rccl", "oneccl", "vllm", "sglang", "tensorrt-llm")
Selection = tuple[str, Protocol]


def check(links: GroupLinks, op: str, library: str, algorithm: str | None, mode: str) -> None:
    """Raise ScheduleError for an unknown word, or for an algorithm that this group cannot do."""
    for what, given, known in (("op", op, OPS), ("mode", mode, MODES), ("library", library.split("<")[0], LIBRARIES)):
        if given not in known:
            raise ScheduleError(where=what, given=repr(given), rule=f"is none of {', '.join(known)}")
    if links.ranks < 1 or not 1 <= links.ranks_per_node <= links.ranks or links.nodes < 1:
        raise ScheduleError(
            given=f"{links.ranks} ranks on {links.nodes} nodes, {links.ranks_per_node} per node",
            rule="a group has at least one rank and a node no more than the group",
        )
    if op == "send_recv" and links.ranks > 2:
        raise ScheduleError(given=f"{links.ranks} ranks", rule="send_recv is between two ranks")
    check_rates(links)
    if algorithm is not None:
        check_algorithm(links, op, algorithm)


def check_rates(links: GroupLinks) -> None:
    """Raise ScheduleError for a link that carries nothing."""
    if links.ranks == 1:
        return
    needed = {"nic_bytes_per_s": links.nic_bytes_per_s} if links.nodes > 1 else {}
    if links.ranks_per_node > 1:
        needed |= {"scale_up_bytes_per_s": links.scale_up_bytes_per_s, "pair_bytes_per_s": links.pair_bytes_per_s}
    for name, rate in needed.items():
        if not (isfinite(rate) and rate > 0.0):
            raise ScheduleError(
                where=name, given=f"{rate:g} bytes/s", rule="a link must carry more than nothing, and a finite rate",
                way_out="a link that is down is left out of the topology",
            )  # fmt: skip
    if links.nodes > 1 and links.network == "none":
        raise ScheduleError(where="network", given="none", rule=f"{links.nodes} nodes need a network between them")


def check_algorithm(links: GroupLinks, op: str, algorithm: str) -> None:
    """Raise ScheduleError unless `algorithm` exists for `op` and this group's links can carry it out."""
    if algorithm not in ALGORITHMS[op]:
        raise ScheduleError(
            where=op, given=repr(algorithm), rule="no such algorithm", way_out=f"use {', '.join(ALGORITHMS[op])}"
        )
    if algorithm in ("nvls", "nvls_tree") and not links.multicast:
        raise ScheduleError(
            where=f"{op} by {algorithm}", given=f"{links.device.name} on {links.scale_up}",
            rule="needs a switch that reduces and multicasts (NVSwitch of generation 3 or later)", way_out="use ring",
        )  # fmt: skip
    if (algorithm == "nvls" and links.nodes > 1) or (algorithm == "nvls_tree" and links.nodes == 1):
        raise ScheduleError(
            where=f"{op} by {algorithm}", given=f"{links.nodes} nodes",
            rule="nvls runs inside one node and nvls_tree across several",
        )  # fmt: skip
    if algorithm == "hierarchical" and (links.nodes == 1 or links.ranks % links.ranks_per_node):
        raise ScheduleError(
            where=f"{op} by {algorithm}", given=f"{links.ranks} ranks on {links.nodes} nodes",
            rule="needs two nodes or more with the same number of ranks on each", way_out="use ring",
        )  # fmt: skip
    if algorithm in ("one_shot", "two_shot") and links.nodes > 1:
        raise ScheduleError(
            where=f"{op} by {algorithm}", given=f"{links.nodes} nodes", rule="writes peers' memory, so one node only"
        )


def check_bytes(message_bytes: float) -> None:
    """Raise ScheduleError for a size that is negative, no number, or past 2**63."""
    if not 0.0 <= message_bytes <= LARGEST_BYTES:
        raise ScheduleError(
            where="message_bytes", given=f"{message_bytes:g}", rule="a message is 0 to 2**63 bytes",
            way_out="the whole buffer is meant, as nccl-tests counts it",
        )  # fmt: skip
