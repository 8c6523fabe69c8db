"""Time of multi-head latent attention: expanded in prefill, absorbed in decode. DeepSeek-V2, arXiv:2405.04434, 2.1."""

from dataclasses import dataclass

import numpy as np

from simulator.cost.kernel.prefill import Blocks, tile_work
from simulator.cost.kernel.prompts import Prompts
from simulator.cost.kernel.silicon import Parameters, Silicon, either
from simulator.cost.kernel.sizes import Array

PREFILL_PARAMETERS = ("launch", "mma", "exp", "tile", "pass", "passkv", "pad", "seq")
DECODE_PARAMETERS = ("launch", "hbm", "key", "mma", "cta", "head", "comb", "combh", "chunk", "conv")
LATENT, ROPE, NOPE, VALUE = 512, 64, 128, 128
"""Widths of DeepSeek-V2 and V3 (config.json: kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, v_head_dim)."""
_TILE = np.asarray(128.0)
_BLOCKS = Blocks(_TILE, _TILE, np.asarray(0.0), np.asarray(0.0))
_HALF_TILE_HEADS = 64.0


def latent_prefill_s(
    facts: Silicon, prompts: Prompts, heads: Array, widths: tuple[float, float, float], p: Parameters
) -> Array:
    """Seconds of the expanded form; `widths` is (key = nope + rope, value, latent + rope)."""
    key, value, latent = widths
    q = np.asarray(heads)[..., None]
    walks = tile_work(prompts, q, q, _BLOCKS, p["pad"], np.asarray(np.inf))
    per_key = _TILE * (2.0 * (key + value) / (facts.sm_flops_per_s * p["mma"]) + p["exp"])
    body = either(walks.walked * per_key / facts.sm_count, walks.longest * per_key, 2.0)
    tokens, sequences = (prompts.count * prompts.new).sum(-1), prompts.count.sum(-1)
    moved = 4.0 * tokens * (heads * (key + value) * p["pass"] + latent * p["passkv"])
    total: Array = (
        p["launch"]
        + p["tile"] * walks.tiles / facts.sm_count
        + body
        + moved / facts.hbm_bytes_per_s
        + p["seq"] * sequences
    )
    return total


@dataclass(frozen=True, slots=True)
class LatentKernel:
    """Arrays over ops: query rows of one tensor-core tile; 1 where a long cache is split; 1 where it is converted."""

    rows: Array
    splits: Array
    converts: Array


def latent_decode_s(
    facts: Silicon,
    sequences: Array,
    keys: Array,
    heads: Array,
    widths: tuple[float, float],
    element_bytes: Array,
    kernel: LatentKernel,
    p: Parameters,
) -> Array:
    """Seconds of the absorbed form; `widths` is (latent, rope).

    All heads of a sequence read one latent: a tile multiplies in full however few heads are used, and whole blocks of
    as many keys however few are cached.
    """
    latent, rope = widths
    rows = kernel.rows
    groups = np.ceil(heads / rows)
    units = np.maximum(sequences * groups, 1e-9)
    most = np.where(kernel.splits > 0, np.maximum(1.0, keys / (p["chunk"] * 64.0)), 1.0)
    splits = np.clip(facts.sm_count / units, 1.0, most)
    whole = np.where(keys > 0, np.maximum(keys, rows * splits), 0.0)
    full = units * splits / facts.sm_count
    waves = 0.5 * np.maximum(1.0, full) + 0.5 * np.ceil(np.maximum(1.0, full) - 1e-9)
    serial = waves * whole / splits * p["key"]
    multiply = sequences * whole * groups * rows * 2.0 * (2.0 * latent + rope) / (facts.peak_flops_per_s * p["mma"])
    cached = sequences * keys * (latent + rope)
    memory = cached * element_bytes / p["hbm"] / facts.hbm_bytes_per_s
    convert = kernel.converts * cached * p["conv"] / facts.hbm_bytes_per_s
    body = (serial**3 + memory**3 + multiply**3) ** (1.0 / 3.0)
    used = np.minimum(heads, rows) / _HALF_TILE_HEADS
    blocks = np.maximum(1.0, full) * (p["cta"] + p["head"] * used)
    combine = (1.0 - 1.0 / splits) * (p["comb"] + p["combh"] * used)
    in_out = sequences * heads * (2.0 * latent + rope) * 2.0 / facts.hbm_bytes_per_s
    return p["launch"] + convert + body + blocks + combine + in_out
