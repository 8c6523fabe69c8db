"""DeepSeek-V4: one shared key-value head, a window of latest tokens and compressed entries before it. Priced only.

Source: transformers' modeling_deepseek_v4.py (2026) and the config.json of V4-Flash and V4-Pro. Layers are of
three kinds: window only (compress ratio 0); CSA, ratio 4, entries chosen by an indexer; HCA, ratio 128, all read.
"""

from dataclasses import replace

from simulator.model.architecture import GroupedQueryAttention, Layer, MixtureOfExperts, Router
from simulator.model.config_reader import ConfigReader
from simulator.model.config_rope import rope_from
from simulator.model.families.common import Body, checked_experts, layer_count, mtp_note

_CSA_LARGEST_RATIO = 16
"""CSA compresses 4 tokens into one entry, HCA 128: an indexer goes with the small ratio only."""


def _window_only(config: ConfigReader) -> GroupedQueryAttention:
    heads, dim = config.integer("num_attention_heads"), config.integer("head_dim")
    groups = config.integer("o_groups", 1)
    if heads * dim % groups:
        raise config.wrong("o_groups", f"must divide num_attention_heads x head_dim = {heads * dim}")
    return GroupedQueryAttention(
        heads=heads,
        kv_heads=1,
        head_dim=dim,
        v_head_dim=dim,
        scale=float(dim) ** -0.5,
        rope=rope_from(config, config.integer("qk_rope_head_dim", least=2), interleaved=True),
        sinks=True,
        window=config.integer("sliding_window"),
        q_lora_rank=config.integer("q_lora_rank"),
        output_groups=groups,
        output_lora_rank=config.integer("o_lora_rank"),
        shared_kv=True,
    )


def _attention(config: ConfigReader, plain: GroupedQueryAttention, ratio: int) -> GroupedQueryAttention:
    if ratio == 0:
        return plain
    compressed = replace(plain, kv_compression=ratio)
    if ratio > _CSA_LARGEST_RATIO:
        return compressed
    return replace(
        compressed,
        sparse_top_k=config.integer("index_topk"),
        indexer_heads=config.integer("index_n_heads"),
        indexer_head_dim=config.integer("index_head_dim"),
    )


def deepseek_v4(config: ConfigReader) -> Body:
    """V4-Flash and V4-Pro; hash-routed layers are taken as routed ones."""
    layers = layer_count(config)
    ratios = config.integers("compress_ratios", _listed(config, layers))[:layers]
    width = config.integer("moe_intermediate_size")
    moe = MixtureOfExperts(
        experts=config.integer("n_routed_experts"),
        top_k=config.integer("num_experts_per_tok"),
        intermediate=width,
        router=Router(
            scoring="sigmoid", routed_scale=config.number("routed_scaling_factor", 1.0), correction_bias=True
        ),
        activation="clamped_swiglu",
        shared_intermediate=width * config.integer("n_shared_experts", 0, least=0),
    )
    moe = checked_experts(config, moe, "n_routed_experts")
    plain = _window_only(config)
    return Body(
        layers=tuple(Layer(_attention(config, plain, ratio), moe) for ratio in ratios),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        numbers_refused="compressed attention, hyper-connections and hash-routed layers are priced, not computed",
        notes=(
            *mtp_note(config, "num_nextn_predict_layers"),
            "hyper-connections (below 0.3 % of weights) are left out",
        ),
    )


def _listed(config: ConfigReader, layers: int) -> int:
    """`compress_ratios` has one entry a layer, or one more for each multi-token-prediction layer."""
    given = config.items.get("compress_ratios")
    extra = layers + config.integer("num_nextn_predict_layers", 0, least=0)
    return extra if isinstance(given, list) and len(given) == extra else layers
