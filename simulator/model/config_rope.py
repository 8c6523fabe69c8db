"""Rotary embedding facts of a config.json: rope_theta with rope_scaling, or the newer rope_parameters."""

from collections.abc import Mapping
from math import log, sqrt

from simulator.model.architecture import Rope
from simulator.model.config_reader import ConfigReader

_KNOWN = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
_OWN_FIELDS = {"rope_theta", "partial_rotary_factor", "type", "rope_type"}
_NEEDS_ORIGINAL_LENGTH = {"yarn", "llama3"}
_COMPUTED = {"", "linear", "yarn", "llama3"}


def rope_items(config: ConfigReader) -> ConfigReader:
    """The object that holds the scaling: `rope_parameters` (transformers 5) or `rope_scaling` (before)."""
    return config.nested("rope_parameters" if config.has("rope_parameters") else "rope_scaling")


def rope_scaling(config: ConfigReader, items: ConfigReader | None = None) -> tuple[tuple[str, float | str | bool], ...]:
    """Scaling items sorted by key, `rope_type` first in meaning; empty where positions are not rescaled.

    The old key `type` is stored as `rope_type`. Lists (multimodal sections) are left out: with text
    alone all sections see the same position, so they change nothing.
    """
    given = rope_items(config) if items is None else items
    kind_key = "rope_type" if given.has("rope_type") else "type"
    kind = given.one_of(kind_key, _KNOWN, "default")
    if kind == "default":
        return ()
    kept: dict[str, float | str | bool] = {"rope_type": kind}
    for key, value in given.items.items():
        if key not in _OWN_FIELDS and value is not None and not isinstance(value, list | Mapping):
            kept[key] = value if isinstance(value, bool | str) else given.number(key, positive=False)
    if kind != "longrope" or given.has("factor"):
        kept["factor"] = given.number("factor")
    if kind in _NEEDS_ORIGINAL_LENGTH:
        length = config.number("max_position_embeddings", 4096)
        kept["original_max_position_embeddings"] = given.number("original_max_position_embeddings", length)
    if kind == "llama3":
        kept |= {key: given.number(key) for key in ("low_freq_factor", "high_freq_factor")}
    return tuple(sorted(kept.items()))


def scaling_value(rope: Rope, key: str, default: float) -> float:
    """A number out of the scaling items, or the default where it is absent."""
    value: float | str | bool = dict(rope.scaling).get(key, default)
    return float(value)


def rope_kind(rope: Rope | None) -> str:
    """ "yarn", "llama3", "linear", ... or "" where positions are not rescaled (or there is no rotation)."""
    return "" if rope is None else str(dict(rope.scaling).get("rope_type", ""))


def rope_refused(rope: Rope | None) -> str:
    """Why the numbers of this rotation are not built; empty where they are."""
    kind = rope_kind(rope)
    return "" if kind in _COMPUTED else f"rotary scaling {kind!r} depends on the length of the whole prompt"


def partial_dim(config: ConfigReader, head_dim: int, default: float = 1.0) -> int:
    """Rotated dimensions of a head: `rotary_dim`, or head_dim x `partial_rotary_factor`, truncated to even.

    transformers truncates with int(); MiMo-V2-Flash's 192 x 0.334 gives 64 that way.
    """
    items = rope_items(config)
    if config.has("rotary_dim"):
        dim = config.integer("rotary_dim", least=2)
    elif items.has("partial_rotary_factor"):
        dim = int(head_dim * items.number("partial_rotary_factor"))
    else:
        dim = int(head_dim * config.number("partial_rotary_factor", default))
    if dim > head_dim or dim < 2 or dim % 2:
        key = "rotary_dim" if config.has("rotary_dim") else "partial_rotary_factor"
        raise config.wrong(key, f"must rotate an even number of dimensions, from 2 to head_dim = {head_dim}")
    return dim


def rope_from(
    config: ConfigReader,
    dim: int,
    theta_default: float = 10_000.0,
    interleaved: bool = False,
    theta_key: str = "rope_theta",
) -> Rope:
    """The rotation over `dim` dimensions of each head."""
    items = rope_items(config)
    if items.has("full_attention"):  # transformers 5 nests one object a layer type where they differ
        items = items.nested("full_attention")
    source = items if items.has(theta_key) else config
    theta = source.number(theta_key, theta_default)
    return Rope(theta=theta, dim=dim, interleaved=interleaved, scaling=rope_scaling(config, items))


def yarn_mscale(factor: float, mscale: float) -> float:
    """YaRN's attention temperature: 0.1 mscale ln(factor) + 1. Source: arXiv:2309.00071, eq. 22; DeepSeek-V3's code."""
    return 1.0 if factor <= 1 else 0.1 * mscale * log(factor) + 1.0


def latent_scale(head_dim: int, rope: Rope) -> float:
    """Softmax scale of MLA: 1/sqrt(head_dim), times yarn_mscale(factor, mscale_all_dim)^2 where that is given.

    Source: modeling_deepseek.py of DeepSeek-V2 and V3 (2024), `softmax_scale`.
    """
    scale = 1.0 / sqrt(head_dim)
    all_dim = scaling_value(rope, "mscale_all_dim", 0.0)
    if rope_kind(rope) == "yarn" and all_dim:
        scale *= yarn_mscale(scaling_value(rope, "factor", 1.0), all_dim) ** 2
    return scale
