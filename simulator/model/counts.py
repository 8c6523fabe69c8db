"""How many parameters a model has, how many a token uses, and how many bytes they take.

Every tensor of `parameters.py` is counted. Embedding and head both count, once where they are tied, in the
total and in the active number alike. Published "active" numbers often leave the embedding out: DeepSeek-V3's
37 B is 37.55 B here. Multi-token-prediction layers and vision towers are not part of an Architecture.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from simulator.model.architecture import Architecture, Layer, MixtureOfExperts
from simulator.model.parameters import Kind, Parameter, layer_parameters, outer_parameters
from simulator.model.quantization import parameter_bytes


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Elements, not bytes. `active` is what one token's forward pass multiplies with, embeddings included."""

    total: int
    active: int
    by_kind: tuple[tuple[Kind, int], ...]
    """Total by kind, in descending order."""
    matrices: int
    """Total without norms, biases, sinks and position tables: how parameter tables usually count."""
    active_matrices: int


def is_vector(parameter: Parameter) -> bool:
    """Norms, biases (a stack of them over experts too), sinks and position tables."""
    named = parameter.name.endswith(".bias") or parameter.name == "embed_positions.weight"
    return len(parameter.axes) == 1 or parameter.kind == "norm" or named


def active_size(parameter: Parameter, layer: Layer | None) -> int:
    """Elements of a tensor that one token uses: top_k / experts of routed experts, all of the rest."""
    block = None if layer is None else layer.feed_forward
    if parameter.kind == "expert" and isinstance(block, MixtureOfExperts):
        return parameter.size * block.top_k // block.experts
    return parameter.size


@lru_cache(maxsize=64)
def parameter_counts(architecture: Architecture) -> ParameterCounts:
    """Counts of the whole unsharded model."""
    listed: list[tuple[Parameter, Layer | None, int]] = [(p, None, 1) for p in outer_parameters(architecture)]
    for layer, times in Counter(architecture.layers).items():
        listed += [(parameter, layer, times) for parameter in layer_parameters(architecture, layer)]
    kinds: Counter[Kind] = Counter()
    active, matrices, active_matrices = 0, 0, 0
    for parameter, of, times in listed:
        used = active_size(parameter, of) * times
        kinds[parameter.kind] += parameter.size * times
        active += used
        if not is_vector(parameter):
            matrices += parameter.size * times
            active_matrices += used
    return ParameterCounts(kinds.total(), active, tuple(kinds.most_common()), matrices, active_matrices)


@lru_cache(maxsize=64)
def weight_bytes(architecture: Architecture) -> float:
    """Bytes of all weights as the architecture's quantization stores them, scales included, on no particular GPU."""
    quantization = architecture.quantization
    found = sum(parameter_bytes(parameter, quantization) for parameter in outer_parameters(architecture))
    for layer, times in Counter(architecture.layers).items():
        found += times * sum(parameter_bytes(p, quantization) for p in layer_parameters(architecture, layer))
    return found
