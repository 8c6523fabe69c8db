"""Elementwise functions of the sharded kernels."""

import math
from typing import cast

import numpy as np

from simulator.errors import NotBuiltError
from simulator.numeric.rank import Array

CLAMP_ALPHA, CLAMP_LIMIT = 1.702, 7.0
"""gpt-oss's clamped SwiGLU. Source: openai/gpt-oss, gpt_oss/torch/model.py, 2025-08-05."""

_erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    return cast(Array, 0.5 * (np.tanh(0.5 * x) + 1.0))


def activate(kind: str, x: Array) -> Array:
    """An activation without a gate."""
    match kind:
        case "silu":
            return x * sigmoid(x)
        case "gelu":
            return cast(Array, x * (0.5 * (1.0 + _erf(x / math.sqrt(2.0)))))
        case "gelu_tanh":
            return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
        case "relu2":
            return np.square(np.maximum(x, 0.0))
    raise NotBuiltError(given=kind, rule="the numbers of this activation are not built")


def gated(kind: str, gate: Array, up: Array) -> Array:
    """act(gate) * up, with gpt-oss's clamped variant."""
    if kind == "clamped_swiglu":
        gate = np.minimum(gate, CLAMP_LIMIT)
        return cast(Array, (np.clip(up, -CLAMP_LIMIT, CLAMP_LIMIT) + 1.0) * (gate * sigmoid(CLAMP_ALPHA * gate)))
    return activate(kind, gate) * up
