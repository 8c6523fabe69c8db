"""Gemma 1 to 3 and Nemotron-4: priced only, their norms add one to the weight and Gemma has four a layer.

Sources: transformers' modeling_gemma.py, modeling_gemma2.py, modeling_gemma3.py, modeling_nemotron.py (v4.57, 2025-10).
"""

from dataclasses import replace

from simulator.model.architecture import DenseMlp, Layer
from simulator.model.config_reader import ConfigReader
from simulator.model.families.common import Body, layer_count
from simulator.model.families.llama import grouped_query, windowed

_REFUSED = "norms of weight 1 + w, scaled embeddings and soft caps are priced, not computed"


def _gemma(config: ConfigReader, period: int) -> Body:
    """`period`: every such layer attends fully, the others slide; 1: all attend fully."""
    layers = layer_count(config)
    kinds = ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in range(layers)]
    known = ConfigReader({"layer_types": kinds, "head_dim": 256, **config.items}, config.where)
    attention = grouped_query(known, qkv_bias=False, output_bias=False, qk_norm="head" if period > 2 else "none")
    if known.has("query_pre_attn_scalar"):
        attention = replace(attention, scale=known.number("query_pre_attn_scalar") ** -0.5)
    mlp = DenseMlp(known.integer("intermediate_size"), activation="gelu_tanh")
    return Body(
        layers=tuple(Layer(a, mlp) for a in windowed(known, attention, layers)),
        norm_eps=known.number("rms_norm_eps", 1e-6),
        tie_default=True,
        numbers_refused=_REFUSED,
    )


def gemma(config: ConfigReader) -> Body:
    """Gemma 1: full attention in all layers."""
    return _gemma(config, 1)


def gemma2(config: ConfigReader) -> Body:
    """Gemma 2: windows in every other layer, sliding first."""
    return _gemma(config, 2)


def gemma3(config: ConfigReader) -> Body:
    """Gemma 3: five windows to one full layer, norms over each head of q and k."""
    return _gemma(config, config.integer("sliding_window_pattern", 6))


def nemotron(config: ConfigReader) -> Body:
    """Nemotron-4: squared ReLU without a gate, layer norm, half-rotated heads."""
    attention = grouped_query(config, qkv_bias=False, output_bias=False, partial_default=0.5)
    mlp = DenseMlp(config.integer("intermediate_size"), gated=False, activation="relu2")
    return Body(
        layers=(Layer(attention, mlp),) * layer_count(config),
        norm="layer",
        norm_eps=config.number("norm_eps", 1e-5),
        numbers_refused="layer norms of weight 1 + w are priced, not computed",
    )
