"""Rotary position embedding, unscaled or with linear, llama3 or YaRN scaling."""

import math
from typing import cast

import numpy as np

from simulator.errors import NotBuiltError
from simulator.model.architecture import Rope
from simulator.numeric.reference.parts import Array

Scaling = dict[str, float | str | bool]


def rotate(x: Array, positions: Array, rope: Rope, max_position: int) -> Array:
    """The first `rope.dim` dimensions of every head turned by its position's angles; the others left alone.

    x: [tokens, heads, head_dim]; positions: [tokens]. Source: Su et al. 2021, arXiv:2104.09864, equation 15.
    """
    frequencies, attention_factor = inverse_frequencies(rope, max_position)
    angles = positions[:, None, None] * frequencies[None, None, :]
    cos, sin = np.cos(angles) * attention_factor, np.sin(angles) * attention_factor
    half = rope.dim // 2
    first, second = (
        (np.arange(0, rope.dim, 2), np.arange(1, rope.dim, 2))
        if rope.interleaved
        else (np.arange(half), np.arange(half, rope.dim))
    )
    turned = x.copy()
    turned[..., first] = x[..., first] * cos - x[..., second] * sin
    turned[..., second] = x[..., second] * cos + x[..., first] * sin
    return turned


def inverse_frequencies(rope: Rope, max_position: int) -> tuple[Array, float]:
    """Radians per position of each of the dim/2 pairs, and the factor on cosine and sine (YaRN's, else 1)."""
    scaling: Scaling = dict(rope.scaling)
    plain: Array = rope.theta ** (-np.arange(0, rope.dim, 2, dtype=np.float64) / rope.dim)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    match kind:
        case "default":
            return plain, 1.0
        case "linear":
            return plain / _number(scaling, "factor"), 1.0
        case "llama3":
            return _llama3(plain, scaling), 1.0
        case "yarn":
            return _yarn(plain, rope, scaling, max_position)
    raise NotBuiltError(
        where="rope_scaling.type",
        given=repr(kind),
        rule="the numbers of this rotary scaling are not built",
        way_out="use default, linear, llama3 or yarn",
    )


def _number(scaling: Scaling, name: str, default: float | None = None) -> float:
    value = scaling.get(name, default)
    if isinstance(value, str) or value is None:
        raise NotBuiltError(where=f"rope_scaling.{name}", given=repr(value), rule="must be a number for this type")
    return float(value)


def _llama3(plain: Array, scaling: Scaling) -> Array:
    """Long wavelengths slowed by `factor`, short ones kept, a linear blend between.

    Source: meta-llama/llama-models, models/llama3/reference_impl/model.py, `apply_scaling`, 2024-07-23.
    """
    factor, length = _number(scaling, "factor"), _number(scaling, "original_max_position_embeddings")
    low, high = _number(scaling, "low_freq_factor"), _number(scaling, "high_freq_factor")
    out = []
    for frequency in plain:
        wavelength = 2 * math.pi / frequency
        if wavelength < length / high:
            out.append(frequency)
        elif wavelength > length / low:
            out.append(frequency / factor)
        else:
            smooth = (length / wavelength - low) / (high - low)
            out.append((1 - smooth) * frequency / factor + smooth * frequency)
    return np.array(out)


def _magnitude(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _yarn(plain: Array, rope: Rope, scaling: Scaling, max_position: int) -> tuple[Array, float]:
    """Pairs that turn often keep their frequency, slow ones are divided by `factor`, a ramp between.

    Source: Peng et al. 2023, arXiv:2309.00071, section 3.2 and equation 22 (0.1 ln s + 1); the bounds
    rounded to whole dimensions unless `truncate` is false (gpt-oss), and the quotient of mscale and
    mscale_all_dim, as in DeepSeek's modelling code (deepseek-ai/DeepSeek-V2, modeling_deepseek.py, 2024-05).
    """
    factor = _number(scaling, "factor")
    length = _number(scaling, "original_max_position_embeddings", max_position)

    def dimension(turns: float) -> float:
        return rope.dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(_number(scaling, "beta_fast", 32)), dimension(_number(scaling, "beta_slow", 1))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(rope.dim // 2) - low) / (high - low), 0, 1)
    blended = cast(Array, plain / factor * ramp + plain * (1 - ramp))

    if scaling.get("attention_factor") is not None:
        return blended, _number(scaling, "attention_factor")
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        over = _magnitude(factor, _number(scaling, "mscale"))
        return blended, over / _magnitude(factor, _number(scaling, "mscale_all_dim"))
    return blended, _magnitude(factor, 1.0)
