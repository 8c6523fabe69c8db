"""Norms, linear maps, activations: the small parts of the unsharded reference, in float64."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]

SWIGLU_ALPHA: Final = 1.702
SWIGLU_LIMIT: Final = 7.0
"""Slope of gpt-oss's sigmoid and bound of its gate and up projections.

Source: openai/gpt-oss, gpt_oss/torch/model.py, `swiglu(x, alpha=1.702, limit=7.0)`, 2025-08-05.
"""

_erf = np.vectorize(math.erf, otypes=[np.float64])


def linear(x: Array, weights: Weights, name: str) -> Array:
    """x [tokens, in] times `name`.weight [out, in] transposed, plus `name`.bias [out] where there is one."""
    y: Array = x @ weights[f"{name}.weight"].T
    bias = weights.get(f"{name}.bias")
    return y if bias is None else y + bias


def rms(x: Array, eps: float) -> Array:
    """x over its root mean square along the last axis. Source: Zhang and Sennrich 2019, arXiv:1910.07467."""
    y: Array = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    return y


def norm(x: Array, weights: Weights, name: str, eps: float, kind: str = "rms") -> Array:
    """RMSNorm, or ("layer") LayerNorm with mean and bias (Ba et al. 2016, arXiv:1607.06450), over the last axis."""
    if kind == "rms":
        return rms(x, eps) * weights[f"{name}.weight"]
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return rms(centred, eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    y: Array = 0.5 * (1.0 + np.tanh(0.5 * x))
    return y


def softmax(x: Array) -> Array:
    """Softmax over the last axis; -inf entries become 0."""
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    y: Array = e / np.sum(e, axis=-1, keepdims=True)
    return y


def activation(name: str, x: Array) -> Array:
    """An elementwise activation by its name in `DenseMlp.activation`."""
    match name:
        case "silu":
            return x * sigmoid(x)
        case "gelu":  # Hendrycks and Gimpel 2016, arXiv:1606.08415
            y: Array = 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))
            return y
        case "gelu_tanh":  # its approximation in the same paper, as GPT-2 and GPT-3 use it
            return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
        case "relu2":  # So et al. 2021, Primer, arXiv:2109.08668
            return np.maximum(x, 0.0) ** 2
    raise ValueError(f"unknown activation {name!r}")


def gated(name: str, gate: Array, up: Array) -> Array:
    """activation(gate) * up; gpt-oss's clamped SwiGLU bounds both and adds one to `up`.

    Source: Shazeer 2020, arXiv:2002.05202; for "clamped_swiglu" see `SWIGLU_ALPHA`.
    """
    if name != "clamped_swiglu":
        return activation(name, gate) * up
    gate = np.minimum(gate, SWIGLU_LIMIT)
    up = np.clip(up, -SWIGLU_LIMIT, SWIGLU_LIMIT)
    return gate * sigmoid(SWIGLU_ALPHA * gate) * (up + 1.0)
