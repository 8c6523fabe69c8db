"""Moving KV cache (or any blocks) between pools: a fixed part, then blocks at a share of the line's rate.

    t = fixed + layers * per layer + max(bytes / (share * line), blocks * block_s)

The engine's registration, hand-shake and polling make the fixed part; a request is posted layer by layer; small
blocks are bound by how many the NICs take per second. The shares are few and read from published runs, not fitted
by a script; each is named with its source.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Literal

from simulator.cost.price import Bound, Price
from simulator.errors import ScheduleError
from simulator.topology.group import Network

Direction = Literal["write", "read"]
Memory = Literal["gpu", "cpu"]
Engine = Literal["mooncake-vllm", "mooncake-sglang", "mooncake", "nixl", "nccl", "uccl"]


@dataclass(frozen=True, slots=True)
class Mover:
    """One engine's fixed costs and its share of the line."""

    fixed_s: float
    layer_s: float
    share: float
    source: str
    error: float = 0.1


MOVERS: dict[str, Mover] = {
    "mooncake-vllm": Mover(
        5e-5, 9.5e-6, 0.76, "Mooncake docs vllm-v1-pd-performance (2026-08): Qwen3-8B, 8 x CX-7 RoCE, 20 MB to 4.8 GB"
    ),
    "mooncake-sglang": Mover(
        1e-4, 1.7e-5, 0.83, "Mooncake docs SGLang 1P1D (2026): Qwen3-235B, 4 x 400G, 49 MB 2.07 ms to 12.6 GB 76.8 ms"
    ),
    "mooncake": Mover(5e-5, 0.0, 0.87, "Mooncake README: 40 GB over 4 x 200G RoCE at 87 GB/s"),
    "nixl": Mover(3.1e-6, 0.0, 0.85, "NIXL PR 115 (2025-04) on 2 H100 and nixlbench on MI355X, 42.6 of 50 GB/s"),
    "nccl": Mover(7e-6, 0.0, 0.60, "UCCL p2p-design (2026-08): send/recv on L4 over PCIe, 8 B to 256 MiB"),
    "uccl": Mover(8e-6, 0.0, 0.655, "UCCL p2p-design (2026-08): UCCL-Lite on L4 over PCIe, 8 B to 256 MiB"),
}
# Shares of the line on EFA (libfabric SRD), whole node: Mooncake efa_transport.md (2026-08), p5en, p6-b200.
EFA_SHARE: dict[tuple[Memory, Direction], float] = {
    ("gpu", "write"): 0.914,
    ("gpu", "read"): 0.72,
    ("cpu", "write"): 0.53,
    ("cpu", "read"): 0.53,
}
EFA_BLOCK_S = 0.65e-6
"""Whole node: 64 KiB blocks reach 97 GB/s on p5en where 1 MiB blocks reach 353 (same source)."""
EFA_IN_FLIGHT = 320.0
"""Blocks in flight (batch * threads) below which GPU writes on EFA fall off as the square root (same source)."""


def _check(total_bytes: float, line_bytes_per_s: float, block_bytes: float | None) -> None:
    for name, value, least in (("bytes", total_bytes, 0.0), ("block_bytes", block_bytes or 1.0, 1.0)):
        if not (isfinite(value) and least <= value <= 2.0**63):
            raise ScheduleError(where=f"transfer: {name}", given=f"{value:g}", rule=f"must be {least:g} to 2**63")
    if not (isfinite(line_bytes_per_s) and line_bytes_per_s > 0.0):
        raise ScheduleError(
            where="transfer: line_bytes_per_s",
            given=f"{line_bytes_per_s:g}",
            rule="a link must carry more than nothing",
        )


def line_share(
    network: Network,
    engine: Engine,
    memory: Memory = "gpu",
    direction: Direction = "write",
    in_flight: float | None = None,
) -> float:
    """Share of the line's rate that large transfers reach.

    `in_flight`: blocks posted at once, over all threads; where given, too few of them lower EFA's GPU writes.
    """
    if network != "efa":
        return MOVERS[engine].share
    share = EFA_SHARE[memory, direction]
    if in_flight is not None and memory == "gpu" and direction == "write":
        share *= (1.0 + (EFA_IN_FLIGHT / in_flight) ** 2) ** -0.25
    return share


@lru_cache(maxsize=1 << 16)
def transfer_price(
    total_bytes: float,
    line_bytes_per_s: float,
    *,
    engine: Engine = "mooncake",
    network: Network = "roce",
    layers: int = 0,
    block_bytes: float | None = None,
    latency_s: float = 0.0,
    memory: Memory = "gpu",
    direction: Direction = "write",
    in_flight: float | None = None,
) -> Price:
    """Seconds to move `total_bytes` over links of `line_bytes_per_s` together (all NICs of the sender, one direction).

    `layers`: transfers are posted layer by layer where the engine does so; 0 for one plain transfer. Raises
    ScheduleError for a size or rate that cannot be, or an engine that is not known.
    """
    if engine not in MOVERS:
        raise ScheduleError(where="transfer: engine", given=repr(engine), rule=f"is none of {', '.join(MOVERS)}")
    _check(total_bytes, line_bytes_per_s, block_bytes)
    if total_bytes == 0.0:
        return Price(0.0, "roofline", 0.0, "latency")
    mover = MOVERS[engine]
    start = mover.fixed_s + mover.layer_s * layers + latency_s
    wire = total_bytes / (line_bytes_per_s * line_share(network, engine, memory, direction, in_flight))
    if block_bytes is not None and network == "efa":
        wire = max(wire, total_bytes / block_bytes * EFA_BLOCK_S)
    bound: Bound = "latency" if start > wire else "link"
    return Price(start + wire, "fitted", mover.error, bound)
