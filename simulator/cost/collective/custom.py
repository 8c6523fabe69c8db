"""Peer-to-peer all_reduce kernels of inference engines: one-shot, two-shot, and by multicast.

One-shot: every rank reads every peer's whole buffer once, (n - 1) * bytes on its link, one barrier. Two-shot:
reduce-scatter and all-gather by direct reads, 2 (n - 1) / n * bytes, two barriers. Multicast: the switch adds and
spreads (multimem), bytes once. An engine runs the cheapest of its kernels up to its buffer limit and hands larger
messages, groups across nodes, and PCIe groups of more than two to NCCL.
Source of limits: vLLM csrc/custom_all_reduce.cuh and device_communicators, SGLang custom_all_reduce, TensorRT-LLM
customAllReduceKernels (read 2026-11).
"""

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collective import nccl
from simulator.cost.collective.parameters import CustomKernel, Parameters, link_class, platform_name
from simulator.topology.group import GroupLinks

Floats = NDArray[np.float64]
MIB = 2.0**20
LIMIT_BYTES: dict[str, float] = {
    "vllm": 8 * MIB,
    "vllm<0.18": 8 * MIB,
    "sglang": 32 * MIB,
    "sglang<0.5.14": 16 * MIB,
    "tensorrt-llm": 16 * MIB,
    "tensorrt-llm<1.3": 16 * MIB,
}
"""A message of this size or more goes to NCCL."""
KIN: dict[str, str] = {
    "vllm": "sglang", "sglang": "vllm", "vllm<0.18": "sglang<0.5.14", "sglang<0.5.14": "vllm<0.18",
}  # fmt: skip
"""SGLang's kernel is vLLM's by origin: where one was measured on a platform and the other not, it serves both."""
MULTICAST_FROM_RANKS: dict[str, int] = {"vllm": 4, "sglang": 4, "tensorrt-llm": 4}
MULTICAST_LIMIT_BYTES: dict[str, float] = {"vllm": 64 * MIB, "sglang": 64 * MIB, "tensorrt-llm": 64 * MIB}


def kernel_wire(algorithm: str, ranks: int) -> float:
    """Bytes on a rank's link for a message of one byte."""
    return {"one_shot": ranks - 1.0, "two_shot": 2.0 * (ranks - 1) / ranks}.get(algorithm, 1.0)


def kernel_times(kernel: CustomKernel, links: GroupLinks, algorithm: str, message_bytes: Floats) -> Floats:
    """Seconds of one kernel inside a CUDA graph."""
    n = links.ranks
    peers = n - 1
    rate = min(links.scale_up_bytes_per_s, links.pair_bytes_per_s * peers)
    start, share = {
        "one_shot": (kernel.one_shot_s, kernel.one_shot_efficiency),
        "two_shot": (kernel.two_shot_s, kernel.two_shot_efficiency),
        "multicast": (kernel.multicast_s, kernel.multicast_efficiency),
    }[algorithm]
    return start + kernel.rank_s * peers + message_bytes * kernel_wire(algorithm, n) / (rate * share)


EAGER_COPY_SHARE = 0.18
"""Outside a graph an engine first copies its input into the shared buffer: bytes over this share of the memory's rate.

4 MiB and 8 MiB on 2 H100: 8 us and 13 us more than inside a graph (SGLang 0.5.14, vLLM 0.24; measured 2026-08).
"""


def eager_copy_s(links: GroupLinks, library: str, message_bytes: Floats) -> Floats:
    """Seconds of the copy into the shared buffer; none where the engine calls NCCL."""
    if library not in LIMIT_BYTES or not supported(links):
        return np.zeros_like(message_bytes)
    # Past the limit the copy stays at its largest, so that a larger message is never faster.
    copied = np.minimum(message_bytes, LIMIT_BYTES[library])
    return copied / (EAGER_COPY_SHARE * links.device.hbm_bytes_per_s)


def supported(links: GroupLinks) -> bool:
    """Whether the peers can read each other's memory fast enough for the engines to try."""
    return links.nodes == 1 and links.ranks <= 8 and (link_class(links) != "pcie" or links.ranks == 2)


def find_kernel(library: str, links: GroupLinks, parameters: Parameters) -> CustomKernel | None:
    """The fitted kernel of this engine on this group; None where the engine would call NCCL."""
    if not supported(links):
        return None
    if link_class(links) == "xgmi":
        library = "vllm"  # on ROCm the engines run one family of kernels, vLLM's port and AITER's
    for key in (library, library.split("<")[0]):
        kernels = parameters.custom.get(key, {})
        kernel = kernels.get(platform_name(links, kernels)[0])
        if kernel is not None:
            return kernel
    kin = parameters.custom.get(KIN.get(library, ""), {})
    name, exact = platform_name(links, kin)
    return kin[name] if exact else None


def times(
    links: GroupLinks, library: str, algorithm: str | None, message_bytes: Floats, parameters: Parameters
) -> Floats:
    """Seconds of each all_reduce inside a CUDA graph: the engine's kernel where it has one, else NCCL."""
    kernel = find_kernel(library, links, parameters)
    if kernel is not None and algorithm in ("one_shot", "two_shot"):
        return kernel_times(kernel, links, algorithm, message_bytes)
    fallback = nccl.times(links, "all_reduce", algorithm, message_bytes, parameters)
    if kernel is None or algorithm is not None:
        return fallback
    two_shot = kernel_times(kernel, links, "two_shot", message_bytes) if links.ranks > 2 else np.inf
    best = np.minimum(kernel_times(kernel, links, "one_shot", message_bytes), two_shot)
    result = np.where(message_bytes < LIMIT_BYTES[library], best, fallback)
    if links.multicast and links.ranks >= MULTICAST_FROM_RANKS.get(library, 99):
        by_switch = kernel_times(kernel, links, "multicast", message_bytes)
        result = np.where(message_bytes < MULTICAST_LIMIT_BYTES[library], np.minimum(result, by_switch), result)
    return result


def selection(links: GroupLinks, library: str, message_bytes: float, parameters: Parameters) -> str | None:
    """The kernel this engine runs for one message ("one_shot", "two_shot", "multicast"); None: NCCL's choice."""
    kernel = find_kernel(library, links, parameters)
    sizes = np.array([message_bytes])
    if kernel is None:
        return None
    names = ["one_shot"] if links.ranks == 2 else ["one_shot", "two_shot"]
    if message_bytes >= LIMIT_BYTES[library]:
        names = []
    if links.multicast and links.ranks >= MULTICAST_FROM_RANKS.get(library, 99):
        names += ["multicast"] if message_bytes < MULTICAST_LIMIT_BYTES[library] else []
    if not names:
        return None
    return min(names, key=lambda name: float(kernel_times(kernel, links, name, sizes)[0]))
