"""The KV memory of one rank: its pages, its prefix cache, what lies below them, and what was found where."""

from collections.abc import Sequence

from simulator.engine.fleet_spec import ReplicaSpec
from simulator.serving.batcher import Batcher
from simulator.serving.blocks import KvBlocks
from simulator.serving.prefix import PrefixCache
from simulator.serving.tiers import SwapSpace, Tier


def memory_of(spec: ReplicaSpec, stores: dict[str, Tier]) -> KvBlocks:
    """New pages of a rank; `stores`: tiers that replicas share, by name, which gains new ones."""
    tokens = spec.prefix_block_tokens
    tiers = []
    for tier in spec.kv_tiers if tokens else ():
        made = Tier(tier.name, tier.blocks, tier.token_s, tier.fixed_s)
        tiers.append(stores.setdefault(tier.name, made) if tier.shared else made)
    swap = SwapSpace(spec.swap_blocks, spec.swap_token_s) if spec.swap_blocks else None
    return KvBlocks(
        spec.kv_blocks, spec.policy.block_tokens, PrefixCache(tokens, tiers) if tokens else None, swap
    )  # fmt: skip


def tokens_found(before: Sequence[int], batchers: Sequence[Batcher]) -> list[int]:
    """Prompt tokens asked for, found on the GPU, in the first tier, ...: those of these caches beside earlier ones."""
    total = list(before)
    for batcher in batchers:
        cache = batcher.blocks.prefix
        if cache is not None:
            for place, tokens in enumerate((cache.asked_tokens, *cache.hit_tokens)):
                total[place] += tokens
    return total
