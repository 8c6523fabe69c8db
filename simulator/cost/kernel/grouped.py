"""Time of the experts' feed-forward block: grouped GEMMs over what each local expert received, and moving tokens."""

from dataclasses import dataclass

import numpy as np

from simulator.cost.kernel.silicon import Parameters, Silicon, either
from simulator.cost.kernel.sizes import Array

PARAMETERS = ("launch", "mma", "hbm", "feed", "tile", "aux", "out", "route", "expert", "tok")
_TILE = 128.0


@dataclass(frozen=True, slots=True)
class ExpertRows:
    """What the local experts of one rank receive: tokens in all, experts with any, and 128-row tiles."""

    rows: Array
    active: Array
    row_tiles: Array


def expert_rows(loads: Array) -> ExpertRows:
    """Summarise `loads` [..., draws, local experts] (tokens of each expert), averaged over draws."""
    return ExpertRows(loads.sum(-1).mean(-1), (loads > 0).sum(-1).mean(-1), np.ceil(loads / _TILE).sum(-1).mean(-1))


def grouped_s(
    facts: Silicon, rows: ExpertRows, n: Array, k: Array, operand_bytes: tuple[Array, Array], p: Parameters
) -> Array:
    """Seconds of one grouped GEMM's body (no launch): every active expert's [k, n] weight is read once."""
    weight, activation = operand_bytes
    column_tiles = np.ceil(n / _TILE)
    tiles = rows.row_tiles * column_tiles
    multiply = 2.0 * rows.row_tiles * _TILE * column_tiles * _TILE * k / (facts.peak_flops_per_s * p["mma"])
    moved = rows.active * n * k * weight + rows.rows * (k * activation + 2.0 * n)
    memory = moved / (facts.hbm_bytes_per_s * p["hbm"])
    alone = np.where(tiles > 0, _TILE * k * weight / p["feed"], 0.0)
    body = either(either(multiply, memory, 4.0), alone, 4.0)
    return body + p["tile"] * tiles / facts.sm_count


@dataclass(frozen=True, slots=True)
class ExpertBlock:
    """Sizes of one MoE layer on one rank: hidden, local expert width, experts and top-k of the model, tokens."""

    hidden: Array
    inter: Array
    experts: Array
    top_k: Array
    tokens: Array
    gate_and_up: Array
    """2 for a gated block (SwiGLU), 1 for up alone."""


def experts_s(
    facts: Silicon, rows: ExpertRows, block: ExpertBlock, operand_bytes: tuple[Array, Array], p: Parameters
) -> Array:
    """Seconds of route, permute, gate and up, activation, down, un-permute and weighted sum."""
    wide = block.inter * block.gate_and_up
    up = grouped_s(facts, rows, wide, block.hidden, operand_bytes, p)
    down = grouped_s(facts, rows, block.hidden, block.inter, operand_bytes, p)
    permuted = rows.rows * (6.0 * block.hidden + 3.0 * wide) * p["aux"]
    summed = 4.0 * block.tokens * block.hidden * p["out"]
    routed = 4.0 * block.tokens * block.experts * p["route"]
    fixed = p["launch"] + p["expert"] * block.experts + p["tok"] * block.tokens * block.top_k
    return fixed + up + down + (permuted + summed + routed) / facts.hbm_bytes_per_s
