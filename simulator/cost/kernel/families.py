"""Arrays of ops of one family -> times: the vectorised twins of the scalar functions, for step-time tables.

Each function checks sizes, finds the fitted parameters of the device's generation, evaluates the family's model and
keeps it above the roofline. Zero work is 0 s. Errors: KernelError for sizes and formats that no kernel can have.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from simulator.cost.kernel import choose, measured
from simulator.cost.kernel.decode import decode_s
from simulator.cost.kernel.formats import FORMATS, canonical
from simulator.cost.kernel.gemm import GemmKernel, gemm_s
from simulator.cost.kernel.grouped import ExpertBlock, ExpertRows, experts_s, grouped_s, mma_rows
from simulator.cost.kernel.latent import LatentKernel, latent_decode_s, latent_prefill_s
from simulator.cost.kernel.parameters import Fit, fitted
from simulator.cost.kernel.prefill import Blocks, prefill_s
from simulator.cost.kernel.prompts import Prompts
from simulator.cost.kernel.roofline import USUAL, Timed, roofline_times
from simulator.cost.kernel.silicon import silicon
from simulator.cost.kernel.sizes import Array, sizes
from simulator.cost.kernel.tiling import Tiling, tiling
from simulator.cost.kernel.work import (
    Work,
    bound_s,
    compute_s,
    gemm_work,
    grouped_work,
    kv_bytes,
    latent_decode_work,
    memory_s,
    prefill_work,
)
from simulator.cost.price import Provenance
from simulator.hardware.device import Device

QUANTISED = frozenset({"fp8", "fp8_block", "nvfp4", "int8", "mxfp4_mxfp8"})
"""Formats whose GEMM first quantises its bf16 input; the measured times hold that."""

SCALED = frozenset({"fp8_block", "nvfp4", "mxfp4", "mxfp4_mxfp8"})
"""Formats with a scale per block of an operand, applied inside the product."""

GENERATED_ROWS = 64.0
"""Formats whose kernels pad to fewer rows multiply in bf16, which the generated expert kernels do not."""


def _timed(device: Device, work: Work, seconds: Array, fit: Fit) -> Timed:
    """Never below the datasheet's bound, nothing where there is nothing to do."""
    times = np.where(work.moved_bytes > 0, np.maximum(seconds, bound_s(device, work)), 0.0)
    provenance: Provenance = "roofline" if fit.borrowed else "fitted"
    return Timed(times, compute_s(device, work), memory_s(device, work), provenance, fit.error)


def blocks_of(tilings: Sequence[Tiling]) -> Blocks:
    """Tilings of many ops as arrays."""
    return Blocks(
        np.array([t.rows for t in tilings]),
        np.array([t.keys for t in tilings]),
        np.array([float(t.packs) for t in tilings]),
        np.array([float(t.looks_outside) for t in tilings]),
    )


def cached_bytes(device: Device, kv_dtype: str) -> float:
    """Bytes a kernel reads per cached element: without fp8 units the measured kernels kept bf16."""
    return kv_bytes(kv_dtype) if device.peak_flops_per_s.get("fp8") else max(2.0, kv_bytes(kv_dtype))


def latent_unit(device: Device, kv_dtype: str) -> str:
    """The units absorbed MLA and fp8 attention multiply on."""
    return "fp8" if kv_dtype == "fp8" and device.peak_flops_per_s.get("fp8") else "bf16"


def attention_unit_names(q_dtype: str, kv_dtype: str) -> tuple[str, str]:
    """("bf16" or "fp8") of queries and of the cache, from any spelling."""
    return ("fp8" if q_dtype == "fp8" else "bf16", "fp8" if kv_dtype == "fp8" else "bf16")


def gemm_kernel(form: str, splits: bool) -> GemmKernel:
    """The product of one format by a library that may or may not split k."""
    held = FORMATS[form]
    traits = (held.weight_bytes, held.activation_bytes, float(form in QUANTISED), float(splits))
    return GemmKernel(*(np.asarray(trait) for trait in traits))


def refined(timed: Timed, said: measured.Correction) -> Timed:
    """The measured provider's answer: the model of the table's engine times the measured ratio."""
    floor = np.maximum(timed.compute_s, timed.memory_s)
    error = timed.error if said.error is None else said.error
    return Timed(np.maximum(timed.time_s * said.ratio, floor), timed.compute_s, timed.memory_s, "measured", error)


def bmm_timed(
    device: Device, batch: ArrayLike, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str, backend: str = ""
) -> Timed:
    """`batch` equal products [m, k] x [k, n]."""
    form = canonical(dtype)
    b, rows, columns, inner = sizes("gemm", {"batch": batch, "m": m, "n": n, "k": k})
    work = gemm_work(b, rows, columns, inner, form)
    if not choose.lends(device.generation):
        return roofline_times(device, work, "scaled" if form in SCALED else "plain")
    fit = fitted("gemm", choose.gemm_key(device.generation, form, backend))
    kernel = gemm_kernel(form, choose.gemm_splits(device.generation, form, backend))
    seconds = gemm_s(silicon(device, form), (b, rows, columns, inner), kernel, fit.parameters)
    return _timed(device, work, seconds, fit)


def grouped_timed(device: Device, rows: ExpertRows, n: ArrayLike, k: ArrayLike, dtype: str, variant: str = "") -> Timed:
    """One grouped GEMM of `rows` over the experts' [k, n] weights, launch included."""
    form = canonical(dtype)
    counts = {"rows": rows.rows, "active": rows.active, "tiles": rows.row_tiles, "padded": rows.padded}
    r, active, tiles, padded, columns, inner = sizes("grouped_gemm", {**counts, "n": n, "k": k})
    work = grouped_work(r, active, columns, inner, form)
    if not choose.lends(device.generation):
        return roofline_times(device, work, "scaled")
    fit = fitted("experts", choose.experts_key(device.generation, form, variant))
    operand = (np.asarray(FORMATS[form].weight_bytes), np.asarray(FORMATS[form].activation_bytes))
    seconds = USUAL.launch_s + grouped_s(
        silicon(device, form), ExpertRows(r, active, tiles, padded), columns, inner, operand, fit.parameters
    )
    return _timed(device, work, seconds, fit)


def experts_timed(
    device: Device,
    rows: ExpertRows,
    block: ExpertBlock,
    dtype: str,
    variant: str = "",
    chain_s: float | None = None,
) -> Timed:
    """A whole expert block: route, permute, gate and up, activation, down, un-permute.

    `chain_s`: the launches of an engine's own chain of kernels, in place of the measured tables' (None: as measured).
    On Blackwell without a `variant` the faster of the format's own kernels and the generated ones, as engines tune.
    """
    form = canonical(dtype)
    wide = block.inter * block.gate_and_up
    up = grouped_work(rows.rows, rows.active, wide, block.hidden, form)
    down = grouped_work(rows.rows, rows.active, block.hidden, block.inter, form)
    work = Work(up.flops + down.flops, up.moved_bytes + down.moved_bytes, form)
    if not choose.lends(device.generation):
        return roofline_times(device, work, "scaled")
    timed = _experts_by(device, rows, block, work, choose.experts_key(device.generation, form, variant), chain_s)
    if variant or device.generation != "blackwell" or mma_rows(form) < GENERATED_ROWS:
        return timed
    other = _experts_by(device, rows, block, work, choose.generated_experts_key(), chain_s)
    # Block-scaled activations are quantised before either product by kernels of their own.
    quantise_s = 2.0 * USUAL.launch_s if form == "fp8_block" else 0.0
    return replace(timed, time_s=np.minimum(timed.time_s, other.time_s + quantise_s))


def _experts_by(
    device: Device, rows: ExpertRows, block: ExpertBlock, work: Work, key: choose.Key, chain_s: float | None
) -> Timed:
    """The block by the kernels of one group."""
    form = work.dtype
    fit = fitted("experts", key)
    operand = (np.asarray(FORMATS[form].weight_bytes), np.asarray(FORMATS[form].activation_bytes))
    own = fit.parameters if chain_s is None else {**fit.parameters, "launch": chain_s}
    return _timed(device, work, experts_s(silicon(device, form), rows, block, operand, own), fit)


@dataclass(frozen=True, slots=True)
class AttentionKind:
    """Widths and formats that all sequences of a launch share."""

    head_dim: int
    v_head_dim: int
    kv_dtype: str
    window: int | None = None
    q_dtype: str = "bf16"
    backend: str = ""


def prefill_timed(
    device: Device, prompts: Prompts, heads: ArrayLike, kv_heads: ArrayLike, kind: AttentionKind
) -> Timed:
    """Causal attention of a batch; `prompts` has a trailing axis of sequences that is summed over."""
    q, g = sizes("attention_prefill", {"heads": heads, "kv_heads": kv_heads})
    computes = kind.kv_dtype if kind.backend == "trtllm" else kind.q_dtype
    unit = latent_unit(device, computes)
    # The bound grants the fastest units the formats allow.
    work = prefill_work(prompts, q, g, kind.head_dim, kind.v_head_dim, kind.kv_dtype, kind.window, unit)
    if not choose.lends(device.generation):
        return roofline_times(device, replace(work, dtype="bf16"), "attention")
    name = choose.attention_kind(device.generation, kind.backend, kind.head_dim)
    fit = fitted("prefill", choose.prefill_key(device.generation, name, kind.q_dtype, kind.kv_dtype, kind.backend))
    window = np.asarray(np.inf if kind.window is None else float(kind.window))
    width = np.asarray(0.5 * (kind.head_dim + kind.v_head_dim))
    cut = tiling(name, device.generation, kind.head_dim, unit == "fp8", kind.window is not None)
    blocks = Blocks(*(np.asarray(float(v)) for v in (cut.rows, cut.keys, cut.packs, cut.looks_outside)))
    return _timed(
        device, work, prefill_s(silicon(device, unit), prompts, (q, g), width, blocks, window, fit.parameters), fit
    )


def decode_timed(
    device: Device,
    sequences: ArrayLike,
    kv_tokens: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    kind: AttentionKind,
) -> Timed:
    """One new token for each of `sequences`, with `kv_tokens` keys over all of them."""
    s, t, q, g = sizes(
        "attention_decode", {"sequences": sequences, "kv_tokens": kv_tokens, "heads": heads, "kv_heads": kv_heads}
    )
    stored = np.divide(t, s, out=np.zeros_like(s + t), where=s > 0)
    keys = stored if kind.window is None else np.minimum(stored, float(kind.window))
    width = float(kind.head_dim + kind.v_head_dim)
    cached = kv_bytes(kind.kv_dtype)
    moved = s * q * width * 2.0 + s * keys * g * width * cached
    work = Work(2.0 * s * keys * q * width, moved, latent_unit(device, kind.kv_dtype))
    if not choose.lends(device.generation):
        return roofline_times(device, work)
    name = choose.attention_kind(device.generation, kind.backend, kind.head_dim)
    fit = fitted("decode", choose.decode_key(device.generation, name, kind.kv_dtype, kind.backend))
    facts = silicon(device, "bf16")
    planned = stored if choose.plans_by_cache(name, kind.backend) else keys
    seconds = decode_s(facts, s, (planned, keys), (q, g), np.asarray(0.5 * width), np.asarray(cached), fit.parameters)
    return _timed(device, work, seconds, fit)


def latent_prefill_timed(
    device: Device,
    prompts: Prompts,
    heads: ArrayLike,
    widths: tuple[int, int, int, int],
    kv_dtype: str,
    backend: str = "",
) -> Timed:
    """Expanded MLA; `widths` is (latent, rope, nope, value)."""
    latent, rope, nope, value = widths
    (q,) = sizes("mla_prefill", {"heads": heads})
    unit = latent_unit(device, kv_dtype)
    work = prefill_work(prompts, q, q, nope + rope, value, "bf16", None, unit)
    if not choose.lends(device.generation):
        return roofline_times(device, replace(work, dtype="bf16"), "attention")
    kind = choose.latent_kind(device.generation, backend)
    fit = fitted("latent_prefill", choose.latent_key(device.generation, kind, kv_dtype, backend))
    spans = (float(nope + rope), float(value), float(latent + rope))
    return _timed(device, work, latent_prefill_s(silicon(device, unit), prompts, q, spans, fit.parameters), fit)


def latent_kernels(traits: Sequence[tuple[float, bool, bool]]) -> LatentKernel:
    """What `choose.latent_traits` says of many ops, as arrays."""
    rows, splits, converts = (np.array(column, dtype=np.float64) for column in zip(*traits, strict=True))
    return LatentKernel(rows, splits, converts)


def latent_decode_timed(
    device: Device,
    sequences: ArrayLike,
    kv_tokens: ArrayLike,
    heads: ArrayLike,
    widths: tuple[int, int],
    kv_dtype: str,
    backend: str = "",
) -> Timed:
    """Absorbed MLA: every head reads the one latent of `widths` = (latent, rope)."""
    s, t, q = sizes("mla_decode", {"sequences": sequences, "kv_tokens": kv_tokens, "heads": heads})
    unit = latent_unit(device, kv_dtype)
    work = latent_decode_work(s, t, q, widths, kv_dtype, unit)
    if not choose.lends(device.generation):
        return roofline_times(device, work)
    kind = choose.latent_kind(device.generation, backend)
    fit = fitted("latent_decode", choose.latent_key(device.generation, kind, kv_dtype, backend))
    keys = np.divide(t, s, out=np.zeros_like(s + t), where=s > 0)
    spans = (float(widths[0]), float(widths[1]))
    kernel = LatentKernel(*(np.asarray(float(v)) for v in choose.latent_traits(kind, device.generation, kv_dtype)))
    cached = np.asarray(cached_bytes(device, kv_dtype))
    seconds = latent_decode_s(silicon(device, unit), s, keys, q, spans, cached, kernel, fit.parameters)
    return _timed(device, work, seconds, fit)


def elementwise_timed(device: Device, read_bytes: ArrayLike, written_bytes: ArrayLike, name: str = "") -> Timed:
    """A streaming kernel: bytes in, bytes out."""
    r, w = sizes(name or "elementwise", {"read_bytes": read_bytes, "written_bytes": written_bytes})
    return roofline_times(device, Work(np.zeros_like(r), r + w, "bf16"))
