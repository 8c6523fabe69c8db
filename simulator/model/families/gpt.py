"""GPT-2 and GPT-3: layer norm, learned positions, plain GELU blocks, biases everywhere, tied embedding.

Sources: transformers' modeling_gpt2.py; Brown et al. 2020, arXiv:2005.14165, table 2.1 (GPT-3's sizes).
GPT-3's alternating sparse layers (section 2.1 there) are taken as full attention, as its reimplementations do.
"""

from simulator.model.architecture import DenseMlp, GroupedQueryAttention, Layer
from simulator.model.config_reader import ConfigReader
from simulator.model.families.common import Body, head_dim, layer_count

_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
}


def gpt_names(config: ConfigReader) -> ConfigReader:
    """GPT-2's own key names in the common spelling."""
    items = {_NAMES.get(key, key): value for key, value in config.items.items()}
    return ConfigReader(items, config.where)


def gpt(config: ConfigReader) -> Body:
    """GPT-2, GPT-3: the feed-forward block is 4 x hidden where no width is given."""
    heads, dim = config.integer("num_attention_heads"), head_dim(config)
    if config.boolean("gated_mlp", False):
        raise config.wrong("gated_mlp", "must be false: GPT's blocks are up and down projections only")
    if config.integer("num_key_value_heads", heads) != heads:
        raise config.wrong("num_key_value_heads", f"must equal num_attention_heads = {heads}")
    attention = GroupedQueryAttention(
        heads=heads,
        kv_heads=heads,
        head_dim=dim,
        v_head_dim=dim,
        scale=float(dim) ** -0.5,
        rope=None,
        qkv_bias=True,
        output_bias=True,
    )
    activation = config.one_of("activation_function", ("gelu", "gelu_new", "gelu_pytorch_tanh"), "gelu_new")
    mlp = DenseMlp(
        intermediate=config.integer("intermediate_size", 4 * config.integer("hidden_size")),
        gated=False,
        activation="gelu" if activation == "gelu" else "gelu_tanh",
        bias=True,
    )
    return Body(
        layers=(Layer(attention, mlp),) * layer_count(config),
        norm="layer",
        norm_eps=config.number("layer_norm_epsilon", 1e-5),
        tie_default=True,
        learned_positions=config.integer("max_position_embeddings"),
    )
