"""What a kernel must do whatever its implementation: floating-point operations and bytes through HBM.

All functions take arrays of one broadcast shape (see `sizes`) and return arrays of that shape. Bytes count every
operand once: the least a kernel can move, so that `bound_s` is a lower bound.
"""

from dataclasses import dataclass

import numpy as np

from simulator.cost.kernel.formats import FORMATS, peak_flops_per_s
from simulator.cost.kernel.prompts import Prompts
from simulator.cost.kernel.sizes import Array
from simulator.errors import KernelError
from simulator.hardware.device import Device

_KV_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp32": 4.0, "nvfp4": 0.5 + 1.0 / 16}


def kv_bytes(kv_dtype: str) -> float:
    """Bytes of one cached element. Raises KernelError for an unknown format."""
    name = {"bfloat16": "bf16", "float16": "fp16", "nvfp4": "nvfp4"}.get(kv_dtype, kv_dtype)
    if name not in _KV_BYTES:
        raise KernelError(
            given=repr(kv_dtype),
            rule="the KV cache's format must be known",
            way_out=f"use one of {', '.join(_KV_BYTES)}",
        )
    return _KV_BYTES[name]


@dataclass(frozen=True, slots=True)
class Work:
    """Operations, HBM bytes and the format whose units multiply."""

    flops: Array
    moved_bytes: Array
    dtype: str


def compute_s(device: Device, work: Work) -> Array:
    """Seconds at the datasheet's dense peak."""
    return work.flops / peak_flops_per_s(device, work.dtype)


def memory_s(device: Device, work: Work) -> Array:
    """Seconds at the datasheet's HBM bandwidth."""
    return work.moved_bytes / device.hbm_bytes_per_s


def bound_s(device: Device, work: Work) -> Array:
    """The roofline: no kernel is faster. Williams, Waterman, Patterson 2009, doi:10.1145/1498765.1498785."""
    return np.maximum(compute_s(device, work), memory_s(device, work))


def gemm_work(batch: Array, m: Array, n: Array, k: Array, dtype: str) -> Work:
    """`batch` products [m, k] x [k, n] -> [m, n]; the result is bf16 (fp32 where the inputs are)."""
    form = FORMATS[dtype]
    out_bytes = 4.0 if dtype == "fp32" else 2.0
    moved = batch * (m * k * form.activation_bytes + n * k * form.weight_bytes + m * n * out_bytes)
    flops = 2.0 * batch * m * n * k
    return Work(flops, np.where(flops > 0, moved, 0.0), dtype)


def grouped_work(rows: Array, active: Array, n: Array, k: Array, dtype: str) -> Work:
    """`rows` tokens spread over `active` experts, each with its own [k, n] weight."""
    form = FORMATS[dtype]
    moved = rows * k * form.activation_bytes + active * n * k * form.weight_bytes + rows * n * 2.0
    flops = 2.0 * rows * n * k
    return Work(flops, np.where(flops > 0, moved, 0.0), dtype)


def causal_pairs(new: Array, past: Array, window: float | Array | None) -> Array:
    """Query-key pairs of one sequence: query i sees past + i + 1 keys, or the last `window` of them.

    >>> float(causal_pairs(np.array(3.0), np.array(2.0), None)), float(causal_pairs(np.array(3.0), np.array(2.0), 4))
    (12.0, 11.0)
    """
    full = new * past + new * (new + 1.0) / 2.0
    if window is None:
        return full
    # Queries that see fewer than `window` keys: past + i + 1 < window; they save nothing.
    short = np.clip(window - past, 0.0, new)
    long = np.where(new > short, (new - short) * np.minimum(window, past + new), 0.0)
    return short * past + short * (short + 1.0) / 2.0 + long


def seen_keys(new: Array, past: Array, window: int | None) -> Array:
    """Distinct keys of one sequence that any of its new queries sees."""
    keys = new + past
    return keys if window is None else np.minimum(keys, new + window - 1.0)


def prefill_work(
    prompts: Prompts,
    heads: Array,
    kv_heads: Array,
    head_dim: int,
    v_head_dim: int,
    kv_dtype: str,
    window: int | None,
    unit: str,
) -> Work:
    """Scores and weighted sums of every visible pair; queries, results and visible keys and values moved once."""
    width = float(head_dim + v_head_dim)
    pairs = (prompts.count * causal_pairs(prompts.new, prompts.past, window)).sum(-1)
    new = (prompts.count * prompts.new).sum(-1)
    keys = (prompts.count * seen_keys(prompts.new, prompts.past, window)).sum(-1)
    # A cache that this step writes is read in bf16 by some kernels: the lower bound takes the cache's own format.
    moved = new * heads * width * 2.0 + keys * kv_heads * width * kv_bytes(kv_dtype)
    return Work(2.0 * pairs * heads * width, np.where(new > 0, moved, 0.0), unit)


def latent_decode_work(
    sequences: Array, kv_tokens: Array, heads: Array, widths: tuple[int, int], kv_dtype: str, unit: str
) -> Work:
    """Absorbed MLA: scores over latent + rope, sums over latent, one latent read for all heads."""
    latent, rope = widths
    moved = kv_tokens * (latent + rope) * kv_bytes(kv_dtype) + sequences * heads * (2.0 * latent + rope) * 2.0
    return Work(2.0 * kv_tokens * heads * (2.0 * latent + rope), moved, unit)
