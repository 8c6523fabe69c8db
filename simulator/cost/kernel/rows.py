"""Rows of measured kernel tables as inputs of the kernel models: which family, which parameters, which shapes.

Columns are those of `kernels.csv` (aiconfigurator operator tables); outcome columns are not read here.
Conventions: `context_*` is causal prefill from an empty cache; `generation_*` reads `past_kv_len` + 1 keys;
a MoE row counts the tokens of the whole expert-parallel group and times one rank, the one that got most.
MLA widths are DeepSeek-V2/V3's (latent 512, rotary 64, nope 128, value 128): the tables hold no other.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulator.cost.kernel import choose, families
from simulator.cost.kernel.choose import Key
from simulator.cost.kernel.decode import PARAMETERS as DECODE
from simulator.cost.kernel.decode import decode_s
from simulator.cost.kernel.formats import FORMATS, canonical, peak_flops_per_s
from simulator.cost.kernel.gemm import PARAMETERS as GEMM
from simulator.cost.kernel.gemm import GemmKernel, gemm_s
from simulator.cost.kernel.grouped import PARAMETERS as EXPERTS
from simulator.cost.kernel.grouped import ExpertBlock, ExpertRows, expert_rows, experts_s
from simulator.cost.kernel.latent import (
    DECODE_PARAMETERS,
    LATENT,
    NOPE,
    PREFILL_PARAMETERS,
    ROPE,
    VALUE,
    latent_decode_s,
    latent_prefill_s,
)
from simulator.cost.kernel.prefill import PARAMETERS as PREFILL
from simulator.cost.kernel.prefill import prefill_s
from simulator.cost.kernel.prompts import Prompts
from simulator.cost.kernel.silicon import Parameters, Silicon
from simulator.cost.kernel.sizes import Array
from simulator.cost.kernel.skew import expert_loads
from simulator.cost.kernel.tiling import tiling
from simulator.cost.kernel.work import Work, gemm_work, grouped_work, kv_bytes, latent_decode_work, prefill_work
from simulator.hardware.catalogue import find_device

Model = Callable[[Parameters], Array]


@dataclass(frozen=True, slots=True)
class Case:
    """Rows ready to be timed: their model, and the roofline none may beat."""

    model: Model
    bound_s: Array


@dataclass(frozen=True, slots=True)
class Family:
    """An op of the tables: its parameters, the key of a row's group, and the rows as a case."""

    name: str
    parameters: tuple[str, ...]
    key: Callable[[dict[Hashable, object]], Key]
    case: Callable[[pd.DataFrame], Case]
    like_its_generation: bool = False
    """A group leans on all formats of its generation, not on its format on all generations."""


def _column(frame: pd.DataFrame, name: str) -> Array:
    return frame[name].to_numpy(dtype=np.float64)


def _chips(frame: pd.DataFrame, units: list[str]) -> Silicon:
    devices = [find_device(name) for name in frame["gpu"]]
    peaks = [peak_flops_per_s(device, unit) for device, unit in zip(devices, units, strict=True)]
    return Silicon(
        np.array([float(device.sm_count) for device in devices]),
        np.array([device.hbm_bytes_per_s for device in devices]),
        np.array(peaks),
    )


def _bound(chips: Silicon, work: Work) -> Array:
    return np.maximum(work.flops / chips.peak_flops_per_s, work.moved_bytes / chips.hbm_bytes_per_s)


def _generation(row: dict[Hashable, object]) -> str:
    return find_device(str(row["gpu"])).generation


def _text(row: dict[Hashable, object], column: str) -> str:
    return str(row[column])


def _gemm_key(row: dict[Hashable, object]) -> Key:
    return choose.gemm_key(_generation(row), canonical(_text(row, "dtype")), _text(row, "backend"))


def _operands(forms: list[str]) -> tuple[Array, Array]:
    return (
        np.array([FORMATS[form].weight_bytes for form in forms]),
        np.array([FORMATS[form].activation_bytes for form in forms]),
    )


def _gemm_case(frame: pd.DataFrame) -> Case:
    forms = [canonical(dtype) for dtype in frame["dtype"]]
    chips, operands = _chips(frame, forms), _operands(forms)
    m, n, k = (_column(frame, name) for name in ("m", "n", "k"))
    one = np.ones_like(m)
    generations = [find_device(gpu).generation for gpu in frame["gpu"]]
    splits = [choose.gemm_splits(*row) for row in zip(generations, forms, frame["backend"], strict=True)]
    quantises = np.array([float(form in families.QUANTISED) for form in forms])
    kernels = GemmKernel(*operands, quantises, np.array(splits, dtype=np.float64))
    moved = m * k * operands[1] + n * k * operands[0] + 2.0 * m * n
    bound = _bound(chips, Work(gemm_work(one, m, n, k, "bf16").flops, moved, "bf16"))
    return Case(lambda p: gemm_s(chips, (one, m, n, k), kernels, p), bound)


def _kind(row: dict[Hashable, object]) -> str:
    """The implementation the source names, else the one the engine would choose."""
    named = str(row.get("kernel_source", ""))
    if "triton" in named:
        return "triton"
    if named in ("flashinfer", "torch_flow_flashinfer"):
        return "flashinfer"
    head_dim = int(float(str(row["head_dim"])))
    kind = choose.attention_kind(_generation(row), _text(row, "backend"), head_dim)
    return "trtllm_gen" if kind == "triton" and "trtllm" in named else kind


def _kv(row: dict[Hashable, object]) -> str:
    return "fp8" if row["kv_dtype"] == "fp8" else "bf16"


def _prefill_key(row: dict[Hashable, object]) -> Key:
    q_dtype = "fp8" if row["dtype"] == "fp8" else "bf16"
    return choose.prefill_key(_generation(row), _kind(row), q_dtype, _kv(row), _text(row, "backend"))


def _windows(frame: pd.DataFrame) -> Array:
    window = _column(frame, "window_size")
    return np.where(np.isnan(window) | (window <= 0), np.inf, window)


def _prefill_case(frame: pd.DataFrame) -> Case:
    rows = frame.to_dict("records")
    kinds = [_kind(row) for row in rows]
    units = [families.latent_unit(find_device(str(r["gpu"])), _prefill_key(r).finer[0]) for r in rows]
    chips = _chips(frame, units)
    batch, new = _column(frame, "batch_size"), _column(frame, "seq_len")
    prompts = Prompts(batch[:, None], new[:, None], np.zeros_like(new)[:, None])
    q, g, width = (_column(frame, name) for name in ("num_heads", "num_kv_heads", "head_dim"))
    windows = _windows(frame)
    cuts = [
        tiling(kind, _generation(row), int(d), unit == "fp8", bool(np.isfinite(w)))
        for kind, row, d, unit, w in zip(kinds, rows, width, units, windows, strict=True)
    ]
    blocks = families.blocks_of(cuts)
    cached = np.array([kv_bytes(_kv(row)) for row in rows])
    seen = np.minimum(windows, new)
    pairs = seen * (seen + 1.0) / 2.0 + np.where(new > seen, (new - seen) * seen, 0.0)
    moved = batch * new * width * (4.0 * q + 2.0 * g * cached)
    bound = _bound(chips, Work(4.0 * batch * pairs * q * width, moved, "bf16"))
    return Case(lambda p: prefill_s(chips, prompts, (q, g), width, blocks, windows, p), bound)


def _decode_key(row: dict[Hashable, object]) -> Key:
    return choose.decode_key(_generation(row), _kind(row), _kv(row), _text(row, "backend"))


def _decode_case(frame: pd.DataFrame) -> Case:
    chips = _chips(frame, ["bf16"] * len(frame))
    batch = _column(frame, "batch_size")
    stored = _column(frame, "past_kv_len") + 1.0
    keys = np.minimum(stored, _windows(frame))
    ahead = [choose.plans_by_cache(_kind(row), _text(row, "backend")) for row in frame.to_dict("records")]
    planned = np.where(ahead, stored, keys)
    q, g, width = (_column(frame, name) for name in ("num_heads", "num_kv_heads", "head_dim"))
    cached = np.array([kv_bytes(_kv(row)) for row in frame.to_dict("records")])
    moved = batch * width * (4.0 * q + 2.0 * keys * g * cached)
    # Memory alone bounds decode: fp8 units may serve an fp8 cache.
    bound = moved / chips.hbm_bytes_per_s
    return Case(lambda p: decode_s(chips, batch, (planned, keys), (q, g), width, cached, p), bound)


def _latent_key(row: dict[Hashable, object]) -> Key:
    generation, backend = _generation(row), _text(row, "backend")
    return choose.latent_key(generation, choose.latent_kind(generation, backend), _kv(row), backend)


def _latent_units(frame: pd.DataFrame) -> list[str]:
    rows = frame.to_dict("records")
    return [families.latent_unit(find_device(str(row["gpu"])), _kv(row)) for row in rows]


def _latent_prefill_case(frame: pd.DataFrame) -> Case:
    chips = _chips(frame, _latent_units(frame))
    batch, new, heads = (_column(frame, name) for name in ("batch_size", "seq_len", "num_heads"))
    prompts = Prompts(batch[:, None], new[:, None], np.zeros_like(new)[:, None])
    widths = (float(NOPE + ROPE), float(VALUE), float(LATENT + ROPE))
    work = prefill_work(prompts, heads, heads, NOPE + ROPE, VALUE, "bf16", None, "bf16")
    return Case(lambda p: latent_prefill_s(chips, prompts, heads, widths, p), _bound(chips, work))


def _latent_decode_case(frame: pd.DataFrame) -> Case:
    chips = _chips(frame, _latent_units(frame))
    devices = [find_device(name) for name in frame["gpu"]]
    batch, heads = _column(frame, "batch_size"), _column(frame, "num_heads")
    keys = _column(frame, "past_kv_len") + 1.0
    stored = [_kv(row) for row in frame.to_dict("records")]
    cached = np.array([families.cached_bytes(device, kv) for device, kv in zip(devices, stored, strict=True)])
    kinds = [_latent_key(row).implementation for row in frame.to_dict("records")]
    kernels = families.latent_kernels(
        [choose.latent_traits(k, d.generation, kv) for k, d, kv in zip(kinds, devices, stored, strict=True)]
    )
    widths = (float(LATENT), float(ROPE))
    work = latent_decode_work(batch, batch * keys, heads, (LATENT, ROPE), "fp8", "bf16")
    return Case(lambda p: latent_decode_s(chips, batch, keys, heads, widths, cached, kernels, p), _bound(chips, work))


def _variant(row: dict[Hashable, object]) -> str:
    named = str(row.get("kernel_source", ""))
    return next((v for v in ("min_latency", "deepgemm", "cutlass") if v in named), "")


def _experts_key(row: dict[Hashable, object]) -> Key:
    return choose.experts_key(_generation(row), canonical(_text(row, "dtype")), _variant(row))


def _loads(frame: pd.DataFrame, forms: list[str]) -> ExpertRows:
    counts = frame[["num_tokens", "experts", "topk", "moe_ep"]].astype(int).itertuples(index=False, name=None)
    found = [
        expert_rows(expert_loads(tokens, experts, top_k, ranks, str(distribution)), form)
        for (tokens, experts, top_k, ranks), distribution, form in zip(
            counts, frame["distribution"], forms, strict=True
        )
    ]
    return ExpertRows(
        np.array([float(f.rows) for f in found]),
        np.array([float(f.active) for f in found]),
        np.array([float(f.row_tiles) for f in found]),
        np.array([float(f.padded) for f in found]),
    )


def _experts_case(frame: pd.DataFrame) -> Case:
    forms = [canonical(dtype) for dtype in frame["dtype"]]
    chips, operands, rows = _chips(frame, forms), _operands(forms), _loads(frame, forms)
    gated = np.where(frame["kernel_source"].fillna("").str.contains("nongated"), 1.0, 2.0)
    inter = _column(frame, "inter_size") / _column(frame, "moe_tp")
    hidden, experts, top_k, tokens = (_column(frame, name) for name in ("hidden", "experts", "topk", "num_tokens"))
    block = ExpertBlock(hidden, inter, experts, top_k, tokens, gated)
    up = grouped_work(rows.rows, rows.active, inter * gated, hidden, "bf16").flops
    down = grouped_work(rows.rows, rows.active, hidden, inter, "bf16").flops
    weights = rows.active * hidden * inter * (gated + 1.0) * operands[0]
    bound = _bound(chips, Work(up + down, weights, "bf16"))
    return Case(lambda p: experts_s(chips, rows, block, operands, p), bound)


FAMILIES: dict[str, Family] = {
    "gemm": Family("gemm", GEMM, _gemm_key, _gemm_case, like_its_generation=True),
    "context_attention": Family("prefill", PREFILL, _prefill_key, _prefill_case),
    "generation_attention": Family("decode", DECODE, _decode_key, _decode_case),
    "context_mla": Family("latent_prefill", PREFILL_PARAMETERS, _latent_key, _latent_prefill_case),
    "generation_mla": Family("latent_decode", DECODE_PARAMETERS, _latent_key, _latent_decode_case),
    "moe": Family("experts", EXPERTS, _experts_key, _experts_case, like_its_generation=True),
}
"""Families by the `op` column."""
