"""Time of a matrix multiply: tiles in waves over the multiprocessors, split-K, HBM, and quantising the input.

Tile and wave quantisation after NVIDIA, "Matrix Multiplication Background User's Guide" (2023-02), section 4; the
library's choice of tile and split is taken as the fastest of a fixed list.
"""

import numpy as np

from simulator.cost.kernel.silicon import Parameters, Silicon, either
from simulator.cost.kernel.sizes import Array

PARAMETERS = ("launch", "mma", "hbm", "feed", "l2", "tile", "wave", "split", "quant")
_TILES = [(m, n) for m in (64, 128, 256) for n in (32, 64, 128, 256) if (m, n) != (256, 256)]
_CONFIGURATIONS = np.array([(m, n, s) for m, n in _TILES for s in (1, 2, 3, 4, 6, 8, 12, 16)], dtype=np.float64)
_K_STEP = 64.0
"""Depth of one pipeline stage; CUTLASS default tile shapes for 16-bit inputs (3.x, 2024)."""


def gemm_s(
    facts: Silicon,
    sizes: tuple[Array, Array, Array, Array],
    operand_bytes: tuple[Array, Array],
    quantises: Array,
    p: Parameters,
) -> Array:
    """Seconds of `batch` products [m, k] x [k, n] -> [m, n].

    `sizes` is (batch, m, n, k) and `operand_bytes` (weight, activation) bytes per element, arrays of one shape;
    `quantises` is 1 where the activation is first turned from bf16 into the format.
    """
    batch, m, n, k = (a[..., None] for a in sizes)
    weight, activation = (np.asarray(a)[..., None] for a in operand_bytes)
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
    body = np.maximum(either(waves * (np.maximum(compute, through_l2) + p["tile"]), moved / hbm, 4.0), cold_s)
    # Split-K writes and reads back fp32 partial sums, half of it from L2.
    reduction = np.where(split > 1, p["split"] + 4.0 * batch * m * n * (split + 1.0) / (2.0 * hbm), 0.0)
    quantise = p["quant"] + batch * m * k * (2.0 + activation) / hbm
    best: Array = np.min(p["launch"] + body + reduction, axis=-1)
    extra: Array = (np.asarray(quantises)[..., None] * quantise)[..., 0]
    return best + extra


def _waves(full: Array, quantised: float) -> Array:
    """Waves of tiles; a last, partly filled wave costs between its share and a whole one."""
    at_least_one = np.maximum(1.0, full)
    return at_least_one + (np.ceil(full) - at_least_one).clip(0.0) * min(quantised, 1.0)
