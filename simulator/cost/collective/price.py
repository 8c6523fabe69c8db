"""The price of a collective on a group: what the engine, the planner and the command line ask for."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collective import curve, custom, nccl
from simulator.cost.collective.parameters import Parameters, Platform, platform_name, shipped
from simulator.cost.collective.request import Mode, Selection, check, check_bytes
from simulator.cost.price import Bound, Price
from simulator.topology.group import GroupLinks

Floats = NDArray[np.float64]

INT8_REDUCTION = 1.045
"""Adding int8 runs slower than adding half by the same algorithm: median of 1 to 512 MiB, all generations (2026-11)."""
_REDUCING = ("all_reduce", "reduce_scatter")
_UNSEEN_ERROR = 2.0
"""An unmeasured platform is taken to be off by this times the error of the platform it borrows from."""
_NETWORK_ERROR = 0.15


@lru_cache(maxsize=4096)
def _table(links: GroupLinks, op: str, library: str, algorithm: str | None) -> Floats:
    parameters = shipped()
    return curve.tabulate(lambda sizes: graph_times(links, op, library, algorithm, sizes, parameters))


def graph_times(
    links: GroupLinks, op: str, library: str, algorithm: str | None, message_bytes: Floats, parameters: Parameters
) -> Floats:
    """Seconds inside a CUDA graph by these parameters, as chosen: may step down where the library's choice does."""
    engine = library in custom.LIMIT_BYTES and op == "all_reduce"
    if engine or algorithm in ("one_shot", "two_shot"):
        name = library if engine else "vllm"
        return custom.times(links, name, algorithm, message_bytes, parameters)
    return nccl.times(links, op, algorithm, message_bytes, parameters)


def links_for(links: GroupLinks, op: str, dtype: str) -> GroupLinks:
    """The links as this dtype can use them: NVSwitches add fp16, bf16 and fp32, but not int8 (NCCL 2.30, NVLS)."""
    if dtype == "int8" and op in _REDUCING and links.multicast:
        return replace(links, multicast=False)
    return links


def platform_of(links: GroupLinks) -> tuple[Platform, bool]:
    """The fitted platform that serves this group, and whether it was measured itself."""
    known = shipped().platforms
    name, exact = platform_name(links, known)
    return known[name], exact


def collective_times(
    links: GroupLinks,
    op: str,
    message_bytes: Floats,
    *,
    library: str = "nccl",
    algorithm: str | None = None,
    mode: Mode = "graph",
    dtype: str = "bf16",
) -> Floats:
    """Seconds of each message (whole buffer, as nccl-tests counts), for an array of any shape.

    Groups of one and empty messages take no time. Raises ScheduleError for sizes, ops and algorithms that
    cannot be.
    """
    check(links, op, library, algorithm, mode)
    sizes = np.asarray(message_bytes, dtype=np.float64)
    if sizes.size:
        check_bytes(float(sizes.min()))
        check_bytes(float(sizes.max()))
    if links.ranks == 1:
        return np.zeros_like(sizes)
    times = curve.read(_table(links_for(links, op, dtype), op, library, algorithm), sizes)
    if dtype == "int8" and op in _REDUCING:
        times = times * (1.0 + (INT8_REDUCTION - 1.0) * sizes / (sizes + 2.0**20))
    if mode == "eager":
        times = _eager(links, op, library, sizes, times)
    if mode == "one-process":
        times = np.where(sizes > 0.0, np.maximum(times, one_process_floor_s(links, op)), 0.0)
    return np.asarray(times, dtype=np.float64)


LAUNCH_S = 4.3e-6
"""Host time of one kernel launch: 34.5 us for the eight of one process, any op and size to 64 KiB (nccl-tests -g 8 on
A100-40GB, SuperBench's log, 2023)."""
SEND_S = 0.41e-6
"""Host time of one send or receive in a group: an all_to_all of eight has 128 and takes 52.5 us more (same log)."""


def one_process_floor_s(links: GroupLinks, op: str) -> float:
    """What one host thread needs to start a collective on all GPUs of its node, one after the other."""
    n = links.ranks_per_node
    calls = 2 * n * links.ranks if op == "all_to_all" else 2 if op == "send_recv" else 0
    return n * LAUNCH_S + calls * SEND_S


def _eager(links: GroupLinks, op: str, library: str, sizes: Floats, times: Floats) -> Floats:
    platform = platform_of(links)[0]
    host = "arm" if links.device.name.startswith(("GH", "GB")) else "x86"
    busy = times * platform.eager_slowdown
    if op == "all_reduce":
        busy = busy + custom.eager_copy_s(links, library, sizes)
    floors = platform.eager_floor_s
    floor_s = floors.get(f"{library} {host}", floors.get(f"{library.split('<')[0]} {host}", floors[host]))
    return np.where(sizes > 0.0, np.maximum(busy, floor_s), 0.0)


@lru_cache(maxsize=1 << 18)
def collective_price(
    links: GroupLinks,
    op: str,
    message_bytes: float,
    *,
    library: str = "nccl",
    algorithm: str | None = None,
    mode: Mode = "graph",
    dtype: str = "bf16",
) -> Price:
    """The price of one collective; the same question again is a dictionary look-up.

    `mode`: "graph" inside a CUDA graph, "nccl-tests" back to back on a stream (the same here: launches hide behind
    the kernels before them), "one-process" the same from one host thread for all GPUs of a node, "eager" called from
    Python, where the host's launch is the floor.
    """
    sizes = np.array([message_bytes], dtype=np.float64)
    time = float(collective_times(links, op, sizes, library=library, algorithm=algorithm, mode=mode, dtype=dtype)[0])
    if time == 0.0:
        return Price(0.0, "roofline", 0.0, "latency")
    platform, exact = platform_of(links)
    error = platform.error * (1.0 if exact else _UNSEEN_ERROR)
    if links.nodes > 1:
        error = max(error, _NETWORK_ERROR)
    start = float(collective_times(links, op, np.array([1.0]), library=library, algorithm=algorithm, mode=mode)[0])
    bound: Bound = "latency" if start > 0.5 * time else "link"
    return Price(time, "fitted", error, bound)


@lru_cache(maxsize=1 << 16)
def selection(
    links: GroupLinks, op: str, message_bytes: float, *, library: str = "nccl", algorithm: str | None = None
) -> Selection:
    """(algorithm, protocol) that the library would run for this message."""
    check(links, op, library, algorithm, "graph")
    check_bytes(message_bytes)
    if library in custom.LIMIT_BYTES and op == "all_reduce" and algorithm is None:
        kernel = custom.selection(links, library, message_bytes, shipped())
        if kernel is not None:
            return kernel, "simple"
    if algorithm in ("one_shot", "two_shot") or links.ranks == 1:
        return algorithm or "ring", "simple"
    candidates, picked = nccl.choices(links, op, algorithm, np.array([max(float(message_bytes), 1.0)]))
    return candidates[int(picked[0])]
