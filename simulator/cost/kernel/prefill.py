"""Time of causal attention over many new tokens: query tiles that walk their keys, spread over the multiprocessors.

After FlashAttention-2 (Dao 2023, arXiv:2307.08691) and FlashAttention-3 (Shah et al. 2024, arXiv:2407.08608): one
thread block per head and query tile; per query and key, two products on the tensor cores and one exponential.
"""

from dataclasses import dataclass

import numpy as np

from simulator.cost.kernel.prompts import Prompts
from simulator.cost.kernel.silicon import Parameters, Silicon, either
from simulator.cost.kernel.sizes import Array
from simulator.cost.kernel.work import causal_pairs

PARAMETERS = ("launch", "mma", "exp", "tile", "pass", "passkv", "token", "wide", "pad", "outside")
_REFERENCE_DIM = 128.0
_FEW_TOKENS = 8.0
"""Up to these new tokens (a draft's, a last chunk's) all kernels let the query heads of one kv head share a tile."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Arrays over ops: rows and keys of a block, 1 where query heads are packed, 1 where it looks outside windows."""

    rows: Array
    keys: Array
    packs: Array
    looks_outside: Array

    def on_last_axis(self) -> "Blocks":
        """The same with a trailing axis of length one."""
        return Blocks(*(np.asarray(a)[..., None] for a in (self.rows, self.keys, self.packs, self.looks_outside)))


@dataclass(frozen=True, slots=True)
class Walks:
    """Query tiles; tiles times keys each multiplies; the longest walk; tiles times keys looked at in vain."""

    tiles: Array
    walked: Array
    longest: Array
    outside: Array


def tile_work(prompts: Prompts, heads: Array, kv_heads: Array, blocks: Blocks, pad: float, window: Array) -> Walks:
    """What the tiles of a batch walk; `heads`, `blocks` and `window` have the trailing axis."""
    new = np.maximum(prompts.new, 1e-9)
    sharing = np.maximum(heads / np.maximum(kv_heads, 1e-9), 1.0)
    packed = (blocks.packs > 0) | (prompts.new <= _FEW_TOKENS)
    span = np.where(packed, np.maximum(blocks.rows / sharing, 1.0), blocks.rows)
    per_kv = np.where(
        packed, np.ceil(prompts.new * sharing / blocks.rows), sharing * np.ceil(prompts.new / blocks.rows)
    )
    tiles = prompts.count * kv_heads * per_kv
    seen = causal_pairs(prompts.new, prompts.past, window) / new
    # A tile's keys are the union of its queries', in whole blocks: ragged at the diagonal, and where a window starts.
    cut = np.clip((prompts.past + prompts.new - window) / new, 0.0, 1.0)
    every = prompts.past + 0.5 * (new + 1.0)
    ragged = 0.5 * (span + blocks.keys * pad)
    walked = np.minimum(seen + ragged * (1.0 + cut), every + ragged)
    longest = np.minimum(prompts.past + np.ceil(prompts.new / span) * span, window + span)
    longest = np.where(prompts.new > 0, longest, 0.0)
    vain = (every - seen) * blocks.looks_outside
    return Walks(
        tiles.sum(-1),
        (tiles * walked).sum(-1),
        longest.max(-1, initial=0.0),
        (tiles * np.maximum(vain, 0.0)).sum(-1),
    )


def prefill_s(
    facts: Silicon,
    prompts: Prompts,
    heads: tuple[Array, Array],
    head_dim: Array,
    blocks: Blocks,
    window: Array,
    p: Parameters,
) -> Array:
    """Seconds. `heads` is (query, key-value); `head_dim` the mean of key and value widths; `window` inf for full."""
    q, g = (np.asarray(h)[..., None] for h in heads)
    walks = tile_work(prompts, q, g, blocks.on_last_axis(), p["pad"], np.asarray(window)[..., None])
    per_key = blocks.rows * (4.0 * head_dim / (facts.sm_flops_per_s * p["mma"]) + p["exp"])
    per_key = per_key * p["wide"] ** np.log2(head_dim / _REFERENCE_DIM)
    walked = walks.walked + p["outside"] * walks.outside
    body = either(walked * per_key / facts.sm_count, walks.longest * per_key, 2.0)
    tokens = (prompts.count * prompts.new).sum(-1)
    query_heads, kv_heads = heads
    moved = 4.0 * tokens * head_dim * (query_heads * p["pass"] + kv_heads * p["passkv"])
    overhead = p["launch"] + p["tile"] * walks.tiles / facts.sm_count + p["token"] * tokens
    total: Array = overhead + body + moved / facts.hbm_bytes_per_s
    return total
