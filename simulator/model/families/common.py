"""What the families share: the shell around the layers, and checks on head counts and experts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from simulator.model.architecture import Architecture, Layer, LinearAttention, MixtureOfExperts, shared_layers
from simulator.model.config_reader import ConfigReader
from simulator.model.config_rope import rope_refused
from simulator.model.quantization_config import read_quantization


@dataclass(frozen=True, slots=True)
class Body:
    """What a family reader returns: layers and the few facts that differ outside them."""

    layers: tuple[Layer, ...]
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-6
    tie_default: bool = False
    learned_positions: int = 0
    numbers_refused: str = ""
    notes: tuple[str, ...] = field(default=())


Family = Callable[[ConfigReader], Body]


def layer_count(config: ConfigReader) -> int:
    """`num_hidden_layers`, refused beyond any plausible depth so that a typo cannot exhaust memory."""
    count = config.integer("num_hidden_layers")
    if count > 10_000:
        raise config.wrong("num_hidden_layers", "must be at most 10000")
    return count


def head_dim(config: ConfigReader) -> int:
    """`head_dim`, or hidden_size / num_attention_heads where it is absent."""
    heads, hidden = config.integer("num_attention_heads"), config.integer("hidden_size")
    if not config.has("head_dim") and hidden % heads:
        raise config.wrong("num_attention_heads", f"must divide hidden_size = {hidden}", "or give head_dim")
    return config.integer("head_dim", hidden // heads)


def kv_heads(config: ConfigReader, key: str = "num_key_value_heads", heads_key: str = "num_attention_heads") -> int:
    """Key-value heads; absent means one a query head. They must divide the query heads."""
    heads = config.integer(heads_key)
    count = config.integer(key, heads)
    if heads % count:
        raise config.wrong(key, f"must divide {heads_key} = {heads}")
    return count


def checked_experts(config: ConfigReader, moe: MixtureOfExperts, experts_key: str) -> MixtureOfExperts:
    """The block itself, after the checks that no router can do without."""
    if moe.top_k > moe.experts:
        raise config.wrong("num_experts_per_tok", f"must not exceed {experts_key} = {moe.experts}")
    router = moe.router
    if moe.experts % router.groups:
        raise config.wrong("n_group", f"must divide {experts_key} = {moe.experts}")
    if router.groups_kept > router.groups:
        raise config.wrong("topk_group", f"must not exceed n_group = {router.groups}")
    if moe.top_k > router.groups_kept * (moe.experts // router.groups):
        raise config.wrong("topk_group", f"leaves fewer than num_experts_per_tok = {moe.top_k} experts to choose from")
    return moe


def architecture(config: ConfigReader, family: str, name: str, source: str, body: Body) -> Architecture:
    """The whole model from a family's body and the fields every family spells alike."""
    refused = body.numbers_refused
    for layer in dict.fromkeys(body.layers):
        if not refused and not isinstance(layer.attention, LinearAttention):
            refused = rope_refused(layer.attention.rope)
    return Architecture(
        name=name,
        family=family,
        hidden=config.integer("hidden_size"),
        vocab=config.integer("vocab_size"),
        layers=shared_layers(body.layers),
        norm_eps=body.norm_eps,
        max_position=config.integer("max_position_embeddings", 4096),
        tie_embeddings=config.boolean("tie_word_embeddings", body.tie_default),
        norm=body.norm,
        quantization=read_quantization(config, len(body.layers)),
        learned_positions=body.learned_positions,
        source=source,
        notes=body.notes,
        numbers_refused=refused,
    )


def mtp_note(config: ConfigReader, *keys: str) -> tuple[str, ...]:
    """A note on multi-token-prediction layers, which are neither counted nor run."""
    count = sum(config.integer(key, 0, least=0) for key in keys)
    return (f"{count} multi-token-prediction layer(s) left out",) if count else ()
