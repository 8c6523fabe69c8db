"""Time of the experts' feed-forward block: grouped GEMMs over what each local expert received, and moving tokens."""

from dataclasses import dataclass

import numpy as np

from simulator.cost.kernel.silicon import Parameters, Silicon, either
from simulator.cost.kernel.sizes import Array

PARAMETERS = ("launch", "mma", "hbm", "feed", "tile", "aux", "out", "route", "expert", "tok")
TILE = 128.0


def mma_rows(form: str) -> float:
    """Rows that tensor instructions pad an expert's few tokens to.

    Weight-only kernels (Marlin, Triton) expand weights in registers and multiply with mma.sync's 16 rows; the others
    use wgmma or tcgen05, 64 rows or more (PTX ISA 8.7, shapes of mma, wgmma and tcgen05.mma).
    """
    return 16.0 if form in ("int4", "int8_wo", "mxfp4") else 64.0


@dataclass(frozen=True, slots=True)
class ExpertRows:
    """What the local experts of one rank receive: tokens in all, experts with any, 128-row tiles, rows multiplied."""

    rows: Array
    active: Array
    row_tiles: Array
    padded: Array


def filled(rows: Array, tile: float) -> Array:
    """Tiles that `rows` fill: one at least, and half a tile lost on average, as an expert's rows vary step by step."""
    return np.where(rows > 0, np.maximum(1.0, rows / tile + 0.5), 0.0)


def expert_rows(loads: Array, form: str) -> ExpertRows:
    """Summarise `loads` [..., draws, local experts] (tokens of each expert), averaged over draws."""
    tiles, padded = filled(loads, TILE), filled(loads, mma_rows(form)) * mma_rows(form)
    return ExpertRows(
        loads.sum(-1).mean(-1), (loads > 0).sum(-1).mean(-1), tiles.sum(-1).mean(-1), padded.sum(-1).mean(-1)
    )


def grouped_s(
    facts: Silicon, rows: ExpertRows, n: Array, k: Array, operand_bytes: tuple[Array, Array], p: Parameters
) -> Array:
    """Seconds of one grouped GEMM's body (no launch): every active expert's [k, n] weight is read once."""
    weight, activation = operand_bytes
    column_tiles = np.ceil(n / TILE)
    tiles = rows.row_tiles * column_tiles
    multiply = 2.0 * rows.padded * column_tiles * TILE * k / (facts.peak_flops_per_s * p["mma"])
    multiply = multiply + p["tile"] * tiles / facts.sm_count
    moved = rows.active * n * k * weight + rows.rows * (k * activation + 2.0 * n)
    memory = moved / (facts.hbm_bytes_per_s * p["hbm"])
    alone = np.where(tiles > 0, TILE * k * weight / p["feed"], 0.0)
    return either(either(multiply, memory, 4.0), alone, 4.0)


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
