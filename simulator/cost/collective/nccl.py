"""NCCL (and its siblings): the tuner's choice, priced by the fitted stages."""

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collective import tuner
from simulator.cost.collective.facts import PROTOCOLS
from simulator.cost.collective.parameters import Parameters
from simulator.cost.collective.stages import COUNTED, stage_times
from simulator.topology.group import GroupLinks

Floats = NDArray[np.float64]
FIXED = {"all_to_all": "pairwise", "send_recv": "direct"}
"""Ops without a choice of algorithm: grouped sends, by LL or Simple."""
EXCHANGE_LL_BYTES = 512.0 * 1024.0
"""Largest part per peer that grouped sends send by LL: 16 KiB in each of 32 channels (NCCL 2.30.7, src/enqueue.cc)."""


def choices(
    links: GroupLinks, op: str, algorithm: str | None, message_bytes: Floats
) -> tuple[tuple[tuner.Choice, ...], NDArray[np.int64]]:
    """Candidates (algorithm, protocol) and, for each message, the index of the one that runs."""
    if op in FIXED:
        name = algorithm or FIXED[op]
        large = message_bytes / links.ranks > EXCHANGE_LL_BYTES
        return ((name, "ll"), (name, "simple")), large.astype(np.int64)
    tuned_op = "all_gather" if op == "broadcast" else op
    algorithm = "ring" if op == "broadcast" else algorithm  # all that NCCL has for it
    candidates, picked = tuner.choose(links, tuned_op, message_bytes)
    if algorithm is None:
        return candidates, picked
    times = tuner.tuned_times(links, tuned_op, message_bytes)
    forced = [key for key in times if key[0] == algorithm]
    if algorithm in COUNTED:  # protocols switch where the ring's do
        rings = [key for key in times if key[0] == "ring"]
        return tuple((algorithm, p) for _, p in rings), np.stack([times[key] for key in rings]).argmin(axis=0)
    if not forced:
        forced = [(algorithm, protocol) for protocol in PROTOCOLS if protocol == "simple"]
        return tuple(forced), np.zeros(message_bytes.shape, dtype=np.int64)
    return tuple(forced), np.stack([times[key] for key in forced]).argmin(axis=0)


def times(links: GroupLinks, op: str, algorithm: str | None, message_bytes: Floats, parameters: Parameters) -> Floats:
    """Seconds of each message inside a CUDA graph, before the curve is made to rise."""
    candidates, picked = choices(links, op, algorithm, message_bytes)
    result = np.empty_like(message_bytes)
    for index, (name, protocol) in enumerate(candidates):
        chosen = picked == index
        if chosen.any():
            result[chosen] = stage_times(links, op, name, protocol, message_bytes[chosen], parameters)
    return result
