"""KV below the GPU's memory: what `serving.kv_tiers`, `preempt` and `swap_space` mean for one replica."""

from simulator.engine.fleet_spec import KvTierSpec
from simulator.engine.server import Server
from simulator.errors import ScenarioError
from simulator.program.memory import kv_cache_bytes
from simulator.scenario.load import Entry
from simulator.units import format_bytes, parse_bandwidth, parse_bytes, parse_time

SWAP_BYTES_PER_GPU = 4 * 2**30
"""vLLM's --swap-space, default 4 GiB a GPU (docs v0.6, 2024-09)."""
MOST_TOKENS = 4096
"""A sequence whose KV per token stands for others'."""


def token_bytes(server: Server) -> float:
    """KV of one token over all GPUs of an attention rank, copies of replicated heads and latents counted."""
    setup = server.setup
    model, layout = setup.architecture, setup.layout
    copies = layout.tp * layout.cp
    return (
        sum(kv_cache_bytes(model, layout, stage, (MOST_TOKENS,)) for stage in range(layout.pp)) * copies / MOST_TOKENS
    )


def tiers_of(entry: Entry, server: Server, prefix_tokens: int) -> tuple[KvTierSpec, ...]:
    """The tiers of one rank. Raises ScenarioError where a tier holds no block, or there is no prefix cache."""
    layout, each = server.setup.layout, token_bytes(server)
    tiers = []
    for place, told in enumerate(entry.spec.serving.kv_tiers):
        where = entry.document.where(("serving", "kv_tiers", place))
        if prefix_tokens == 0:
            raise ScenarioError(
                where=where, given=told.name, rule="holds blocks of a prefix cache, and there is none",
                way_out="set serving.prefix_cache: true, and use traffic whose prompts share something",
            )  # fmt: skip
        size = parse_bytes(told.size) / (1 if told.shared else layout.dp_attention)
        rate = parse_bandwidth(told.bandwidth) if told.bandwidth else pcie_bytes_per_s(server)
        blocks = int(size / (each * prefix_tokens))
        if blocks < 1:
            raise ScenarioError(
                where=where, given=told.size,
                rule=f"holds no block of {prefix_tokens} tokens ({format_bytes(each * prefix_tokens)})",
                way_out="make it larger",
            )  # fmt: skip
        fixed_s = parse_time(told.latency)
        tiers.append(KvTierSpec(told.name, blocks, each * layout.dp_attention / rate, fixed_s, told.shared))
    return tuple(tiers)


def swap_of(entry: Entry, server: Server, block_tokens: int) -> tuple[int, float]:
    """(KV pages of host memory of one rank, seconds to move a token one way)."""
    told, layout = entry.spec.serving, server.setup.layout
    if told.preempt != "swap":
        return 0, 0.0
    size = parse_bytes(told.swap_space) if told.swap_space else SWAP_BYTES_PER_GPU * layout.ranks
    each = token_bytes(server)
    pages = int(size / layout.dp_attention / (each * block_tokens))
    return pages, each * layout.dp_attention / pcie_bytes_per_s(server)


def pcie_bytes_per_s(server: Server) -> float:
    """A replica's way to host memory: PCIe of all its GPUs, one direction."""
    return server.setup.device.pcie_bytes_per_s * server.setup.layout.ranks
