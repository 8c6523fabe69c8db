"""Time of a matrix multiply: tiles in waves over the multiprocessors, split-K, HBM, and quantising the input.

Tile and wave quantisation after NVIDIA, "Matrix Multiplication Background User's Guide" (2023-02), section 4; the
library's choice of tile and split is taken as the fastest of a fixed list.
"""

from dataclasses import dataclass

import numpy as np

from simulator.cost.kernel.silicon import Parameters, Silicon, either
from simulator.cost.kernel.sizes import Array

PARAMETERS = ("launch", "mma", "hbm", "feed", "l2", "tile", "wave", "split", "quant", "ridge")
_TILES = [(m, n) for m in (64, 128, 256) for n in (32, 64, 128, 256) if (m, n) != (256, 256)]
_CONFIGURATIONS = np.array([(m, n, s) for m, n in _TILES for s in (1, 2, 3, 4, 6, 8, 12, 16)], dtype=np.float64)
_K_STEP = 64.0
"""Depth of one pipeline stage; CUTLASS default tile shapes for 16-bit inputs (3.x, 2024)."""
_TILE_AREA = 128.0 * 128.0


@dataclass(frozen=True, slots=True)
class GemmKernel:
    """Arrays over ops: bytes per weight and activation element; 1 where the input is first turned from bf16 into the
    format; 1 where the library may split k over multiprocessors."""

    weight_bytes: Array
    activation_bytes: Array
    quantises: Array
    splits: Array


def gemm_s(
    facts: Silicon,
    sizes: tuple[Array, Array, Array, Array],
    kernel: GemmKernel,
    p: Parameters,
) -> Array:
    """Seconds of `batch` products [m, k] x [k, n] -> [m, n].

    `sizes` is (batch, m, n, k), arrays of one shape. Writing a tile's results out costs `tile` by the side of the
    tile; multiplying and streaming overlap the better the larger `ridge` (warps that only load, from Hopper on).
    """
    batch, m, n, k = (a[..., None] for a in sizes)
    weight, activation = kernel.weight_bytes[..., None], kernel.activation_bytes[..., None]
    chip = facts.on_last_axis()
    tile_m, tile_n, split = _CONFIGURATIONS.T
    depth = np.ceil(k / split / _K_STEP) * _K_STEP
    compute = 2.0 * tile_m * tile_n * depth / (chip.sm_flops_per_s * p["mma"])
    through_l2 = (tile_m * activation + tile_n * weight) * depth / p["l2"]
    waves = _waves(batch * np.ceil(m / tile_m) * np.ceil(n / tile_n) * split / chip.sm_count, p["wave"])
    moved = batch * (m * k * activation + n * k * weight + 2.0 * m * n)
    hbm = chip.hbm_bytes_per_s * p["hbm"]
    # One multiprocessor alone streams cold data no faster than its outstanding loads allow.
    cold = (np.minimum(tile_m, np.maximum(m, 8.0)) * activation + np.minimum(tile_n, n) * weight) * depth
    cold_s = cold / p["feed"]
    written = p["tile"] * np.sqrt(tile_m * tile_n / _TILE_AREA)
    tiles = waves * (np.maximum(compute, through_l2) + written)
    body = np.maximum(either(tiles, moved / hbm, p["ridge"]), cold_s)
    # Split-K writes and reads back fp32 partial sums, half of it from L2.
    reduction = np.where(split > 1, p["split"] + 4.0 * batch * m * n * (split + 1.0) / (2.0 * hbm), 0.0)
    quantise = p["quant"] + batch * m * k * (2.0 + activation) / hbm
    allowed = (split == 1) | (kernel.splits[..., None] > 0)
    best: Array = np.min(np.where(allowed, p["launch"] + body + reduction, np.inf), axis=-1)
    extra: Array = kernel.quantises * quantise[..., 0]
    return best + extra


def _waves(full: Array, quantised: float) -> Array:
    """Waves of tiles; a last, partly filled wave costs between its share and a whole one."""
    at_least_one = np.maximum(1.0, full)
    return at_least_one + (np.ceil(full) - at_least_one).clip(0.0) * min(quantised, 1.0)
