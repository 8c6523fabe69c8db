"""GPT-J, Falcon, OPT, MPT and BLOOM: layer norm, plain blocks, some with attention and block side by side. Priced only.

Sources: transformers' modeling_gptj.py, modeling_falcon.py, modeling_opt.py, modeling_mpt.py, modeling_bloom.py
(v4.57, 2025-10). A block beside its attention (GPT-J, Falcon) shares one norm and one sum over tp; it is listed
here one after the other, which counts the same weights and prices one more collective.
"""

from dataclasses import replace

from simulator.model.architecture import DenseMlp, GroupedQueryAttention, Layer, Rope
from simulator.model.config_reader import ConfigReader
from simulator.model.families.common import Body, layer_count

OWN_NAMES = {
    "gptj": {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
             "n_inner": "intermediate_size", "n_positions": "max_position_embeddings"},
    "falcon": {"ffn_hidden_size": "intermediate_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
               "num_kv_heads": "num_key_value_heads"},
    "opt": {"ffn_dim": "intermediate_size"},
    "mpt": {"d_model": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
            "max_seq_len": "max_position_embeddings"},
    "bloom": {"n_embed": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"},
}  # fmt: skip
_PARALLEL = "attention and feed-forward block side by side are priced, not computed"
_ALIBI = "linear position biases (ALiBi) are priced, not computed"


def classic_names(family: str, config: ConfigReader) -> ConfigReader:
    """The family's own key names in the common spelling."""
    names = OWN_NAMES[family]
    return ConfigReader({names.get(key, key): value for key, value in config.items.items()}, config.where)


def _attention(config: ConfigReader, kv_heads: int, bias: bool) -> GroupedQueryAttention:
    heads, hidden = config.integer("num_attention_heads"), config.integer("hidden_size")
    if hidden % heads:
        raise config.wrong("num_attention_heads", f"must divide hidden_size = {hidden}")
    if heads % kv_heads:
        raise config.wrong("num_key_value_heads", f"must divide num_attention_heads = {heads}")
    dim = hidden // heads
    return GroupedQueryAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dim,
        v_head_dim=dim,
        scale=float(dim) ** -0.5,
        rope=None,
        qkv_bias=bias,
        output_bias=bias,
    )


def _body(config: ConfigReader, attention: GroupedQueryAttention, bias: bool, refused: str, tied: bool) -> Body:
    width = config.integer("intermediate_size", 4 * config.integer("hidden_size"))
    mlp = DenseMlp(width, gated=False, activation="gelu", bias=bias)
    return Body(
        layers=(Layer(attention, mlp),) * layer_count(config),
        norm="layer",
        norm_eps=config.number("layer_norm_epsilon", 1e-5),
        tie_default=tied,
        numbers_refused=refused,
    )


def gptj(config: ConfigReader) -> Body:
    """GPT-J-6B: interleaved rotation of the first `rotary_dim` dimensions, biases in the block only."""
    heads = config.integer("num_attention_heads")
    attention = _attention(config, heads, bias=False)
    rope = Rope(theta=10_000.0, dim=config.integer("rotary_dim", 64, least=2), interleaved=True)
    return _body(config, replace(attention, rope=rope), bias=True, refused=_PARALLEL, tied=False)


def falcon(config: ConfigReader) -> Body:
    """Falcon 7B (one KV head), 40B and 180B (eight): no biases, tied embedding."""
    heads = config.integer("num_attention_heads")
    grouped = config.boolean("new_decoder_architecture", False)
    single = config.boolean("multi_query", True)
    count = config.integer("num_key_value_heads", heads) if grouped else (1 if single else heads)
    attention = _attention(config, count, bias=config.boolean("bias", False))
    if config.boolean("alibi", False):
        return _body(config, attention, bias=config.boolean("bias", False), refused=_ALIBI, tied=True)
    rope = Rope(theta=config.number("rope_theta", 10_000.0), dim=attention.head_dim)
    refused = _PARALLEL if config.boolean("parallel_attn", True) else "Falcon's sequential variant is not built"
    return _body(config, replace(attention, rope=rope), config.boolean("bias", False), refused, tied=True)


def opt(config: ConfigReader) -> Body:
    """OPT: learned positions (two rows more than the context), ReLU, biases everywhere, tied embedding."""
    hidden = config.integer("hidden_size")
    if config.integer("word_embed_proj_dim", hidden) != hidden:
        raise config.wrong("word_embed_proj_dim", f"must equal hidden_size = {hidden}: OPT-350m is not built")
    attention = _attention(config, config.integer("num_attention_heads"), bias=True)
    body = _body(config, attention, bias=True, refused="ReLU blocks are priced, not computed", tied=True)
    return replace(body, learned_positions=config.integer("max_position_embeddings", 2048) + 2)


def mpt(config: ConfigReader) -> Body:
    """MPT: ALiBi, no biases, tied embedding."""
    inner = config.nested("attn_config")
    heads = config.integer("num_attention_heads")
    attention = _attention(config, inner.integer("kv_n_heads", heads), bias=False)
    ratio = config.integer("expansion_ratio", 4)
    width = {"intermediate_size": ratio * config.integer("hidden_size")}
    known = ConfigReader({**config.items, **width}, config.where)
    return _body(known, attention, bias=False, refused=_ALIBI, tied=True)


def bloom(config: ConfigReader) -> Body:
    """BLOOM: ALiBi, biases everywhere, tied embedding (its extra norm after the embedding is not counted)."""
    attention = _attention(config, config.integer("num_attention_heads"), bias=True)
    return _body(config, attention, bias=True, refused=_ALIBI, tied=True)
