"""Time of causal attention over many new tokens: query tiles that walk their keys, spread over the multiprocessors.

After FlashAttention-2 (Dao 2023, arXiv:2307.08691) and FlashAttention-3 (Shah et al. 2024, arXiv:2407.08608): one
thread block per head and 128 queries; per query and key, two products on the tensor cores and one exponential.
"""

import numpy as np

from simulator.cost.kernel.prompts import Prompts
from simulator.cost.kernel.silicon import Parameters, Silicon, either
from simulator.cost.kernel.sizes import Array
from simulator.cost.kernel.work import causal_pairs

PARAMETERS = ("launch", "mma", "exp", "tile", "pass", "passkv", "token", "wide", "pad")
_REFERENCE_DIM = 128.0


def tile_work(
    prompts: Prompts, heads: Array, kv_heads: Array, tile: Array, pad: float, window: Array
) -> tuple[Array, Array, Array]:
    """(query tiles, tiles times keys each walks, longest walk) of a batch; `heads` etc. have the trailing axis."""
    new = np.maximum(prompts.new, 1e-9)
    # A few new tokens: the query heads of one kv head share a tile (packed GQA).
    packed = kv_heads * np.ceil(prompts.new * heads / np.maximum(kv_heads, 1e-9) / tile)
    tiles = prompts.count * np.where(prompts.new <= 8, packed, heads * np.ceil(prompts.new / tile))
    pairs = causal_pairs(prompts.new, prompts.past, window)
    walked = pairs / new + 0.5 * tile * (1.0 + pad)
    longest = np.minimum(prompts.past + np.ceil(prompts.new / tile) * tile, window + tile)
    longest = np.where(prompts.new > 0, longest, 0.0)
    return tiles.sum(-1), (tiles * walked).sum(-1), longest.max(-1, initial=0.0)


def prefill_s(
    facts: Silicon,
    prompts: Prompts,
    heads: tuple[Array, Array],
    head_dim: Array,
    tile: Array,
    window: Array,
    p: Parameters,
) -> Array:
    """Seconds. `heads` is (query, key-value); `head_dim` the mean of key and value widths; `window` inf for full."""
    q, g = (np.asarray(h)[..., None] for h in heads)
    tiles, walked, longest = tile_work(
        prompts, q, g, np.asarray(tile)[..., None], p["pad"], np.asarray(window)[..., None]
    )
    per_key = tile * (4.0 * head_dim / (facts.sm_flops_per_s * p["mma"]) + p["exp"])
    per_key = per_key * p["wide"] ** np.log2(head_dim / _REFERENCE_DIM)
    body = either(walked * per_key / facts.sm_count, longest * per_key, 2.0)
    tokens = (prompts.count * prompts.new).sum(-1)
    query_heads, kv_heads = heads
    moved = 4.0 * tokens * head_dim * (query_heads * p["pass"] + kv_heads * p["passkv"])
    overhead = p["launch"] + p["tile"] * tiles / facts.sm_count + p["token"] * tokens
    total: Array = overhead + body + moved / facts.hbm_bytes_per_s
    return total
