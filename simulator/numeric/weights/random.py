"""Random weights of a miniature: deterministic, well scaled, independent of any layout."""

import math
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.errors import ModelError
from simulator.model.architecture import Architecture, FeedForward, MixtureOfExperts
from simulator.model.parameters import Parameter, layer_parameters, outer_parameters

Array = NDArray[np.float64]
Weights = Mapping[str, Array]

LARGEST_ELEMENTS: Final = 2**30
"""8 GiB of float64: numbers are for miniatures, and for real checkpoints up to about Qwen3-0.6B."""


def named_parameters(architecture: Architecture) -> Iterator[tuple[str, Parameter, FeedForward | None]]:
    """Every tensor with its full name, and the feed-forward block of its layer (None for outer tensors)."""
    for parameter in outer_parameters(architecture):
        yield parameter.name, parameter, None
    for index, layer in enumerate(architecture.layers):
        for parameter in layer_parameters(architecture, layer):
            yield f"layers.{index}.{parameter.name}", parameter, layer.feed_forward


def random_weights(architecture: Architecture, seed: int) -> dict[str, Array]:
    """Float64 tensors under their full names ("embed_tokens.weight", "layers.0.mlp.gate.weight", ...).

    Each tensor has a generator of its own, keyed by (seed, name), so that adding one leaves the others alone.
    Raises ModelError where the model is no miniature.
    """
    check_size(architecture)
    named = named_parameters(architecture)
    return {name: _draw(architecture, name, parameter, block, seed) for name, parameter, block in named}


def check_size(architecture: Architecture) -> None:
    """Raise ModelError where the model is too large to hold in float64."""
    elements = sum(parameter.size for _, parameter, _ in named_parameters(architecture))
    if elements > LARGEST_ELEMENTS:
        raise ModelError(
            where="weights",
            given=f"{architecture.name} with {elements:,} elements",
            rule=f"numbers run on at most {LARGEST_ELEMENTS:,}",
            way_out="use a miniature of the same architecture",
        )


def _draw(architecture: Architecture, name: str, parameter: Parameter, block: FeedForward | None, seed: int) -> Array:
    stream = np.random.SeedSequence(seed, spawn_key=tuple(name.encode()))
    normal = np.random.default_rng(stream).standard_normal(parameter.shape)
    match parameter.kind, name.rsplit(".", 1)[-1]:
        case "norm", "weight":
            return 1.0 + 0.1 * normal
        case "embedding", _ if not (architecture.tie_embeddings and parameter.name == "embed_tokens.weight"):
            return normal
        case _, "sinks":
            return normal
        case _, "bias" | "e_score_correction_bias":
            return 0.2 * normal
    spread: Array = normal * _gain(parameter, block) / math.sqrt(parameter.shape[-1])
    return spread


def _gain(parameter: Parameter, block: FeedForward | None) -> float:
    """Deviation of a projection's output for an input of mean square one.

    Keeps activations near one and choices (of experts, of next tokens) apart.
    """
    moe = block if isinstance(block, MixtureOfExperts) else None
    match parameter.kind:
        case "embedding":  # tied to the head, a large one would make every token predict itself
            return 1.0
        case "head":
            return 2.0
        case "router":  # sigmoid scores crowd near one where logits are large
            return 1.25 if moe is not None and moe.router.scoring == "sigmoid" else 2.0
        case "expert" if moe is not None and moe.activation == "clamped_swiglu":
            # Large enough that the clamp at 7 is met, small enough on the way down to undo that.
            return 0.2 if "down_proj" in parameter.name else 3.0
    return 1.0
