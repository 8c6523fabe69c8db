"""Storage types out of a config's `quantization_config`, or of a `hf_quant_config.json` beside it (ModelOpt)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from simulator.errors import ModelError
from simulator.model.architecture import Quantization
from simulator.model.config_reader import ConfigReader

_METHODS = "fp8, mxfp4, modelopt, compressed-tensors, awq, gptq, bitsandbytes"
_PROBES = {
    "attention": ("self_attn.q_proj", "self_attn.q_b_proj"),
    "mlp": ("mlp.gate_proj",),
    "shared": ("mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj"),
    "experts": ("mlp.experts.7.gate_proj", "mlp.experts"),
}
"""Module names that stand for each class of weights; a class is left whole when the config leaves these out."""


def _matches(pattern: str, name: str) -> bool:
    """Whether a pattern of modules_to_not_convert / ignore / exclude_modules covers a module name.

    "re:" starts a regular expression; * is a glob; else whole dotted parts must match, so that "gate" means
    the router and not `gate_proj`.
    """
    if pattern.startswith("re:"):
        return re.match(pattern[3:], name) is not None
    if "*" in pattern:
        return any(fnmatchcase(name, glob) for glob in (pattern, f"{pattern}.*", f"*.{pattern}"))
    return f".{pattern}." in f".{name}."


def _left_out(patterns: Sequence[str], layers: int) -> frozenset[str]:
    """The classes of weights that stay in bf16, looked up at a layer in the middle of the stack."""
    prefix = f"model.layers.{layers // 2}."
    try:
        return frozenset(
            kind
            for kind, probes in _PROBES.items()
            if any(_matches(pattern, prefix + probe) for probe in probes for pattern in patterns)
        )
    except re.error as failure:
        raise ModelError(where="quantization_config", given=str(failure), rule="is not a regular expression") from None


def _patterns(config: ConfigReader) -> tuple[str, ...]:
    for key in ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers"):
        if config.has(key):
            return config.strings(key)
    return ()


def _built(dtype: str, left_out: frozenset[str], kv_cache: str = "bf16", int4_group: int = 128) -> Quantization:
    """Weights follow the dense block; where the attention differs it gets its own type."""
    weights = "bf16" if {"mlp", "shared"} & left_out else dtype
    attention = "bf16" if "attention" in left_out else dtype
    return Quantization(
        weights=weights,
        experts="bf16" if "experts" in left_out else dtype,
        kv_cache=kv_cache,
        attention="" if attention == weights else attention,
        int4_group=int4_group,
    )


def _compressed_tensors(config: ConfigReader, layers: int) -> Quantization:
    """The first config group's weights decide: llm-compressor writes one group for all linears."""
    groups = config.nested("config_groups")
    if not groups.items:
        raise config.wrong("config_groups", "must hold a group of quantised weights")
    weights = groups.nested(next(iter(groups.items))).nested("weights")
    bits, kind = weights.integer("num_bits"), weights.one_of("type", ("int", "float"), "int")
    group = weights.integer("group_size", 128, least=-1)
    match (bits, kind):
        case (4, "int"):
            dtype = "int4"
        case (4, "float"):
            dtype = "mxfp4" if group == 32 else "nvfp4"
        case (8, "int"):
            dtype = "int8"
        case (8, "float"):
            dtype = "fp8_block" if weights.text("strategy", "tensor") == "block" else "fp8"
        case _:
            raise weights.wrong("num_bits", "must be 4 or 8")
    kv = "fp8" if config.nested("kv_cache_scheme").items else "bf16"
    return _built(dtype, _left_out(_patterns(config), layers), kv, group if dtype == "int4" and group > 0 else 128)


def _modelopt(config: ConfigReader, layers: int) -> Quantization:
    algorithms = {"NVFP4": "nvfp4", "FP8": "fp8", "FP8_PB_WO": "fp8_block", "W4A16_AWQ": "int4", "NVFP4_AWQ": "nvfp4"}
    dtype = algorithms[config.one_of("quant_algo", tuple(algorithms))]
    kv = config.text("kv_cache_quant_algo", "") or config.nested("kv_cache_scheme").items
    return _built(dtype, _left_out(_patterns(config), layers), "fp8" if kv else "bf16")


def _integers(config: ConfigReader, layers: int) -> Quantization:
    bits, group = config.integer("bits", 4), config.integer("group_size", 128, least=-1)
    if bits not in (4, 8):
        raise config.wrong("bits", "must be 4 or 8")
    return _built(f"int{bits}", _left_out(_patterns(config), layers), int4_group=max(group, 1) if group > 0 else 128)


def read_quantization(config: ConfigReader, layers: int) -> Quantization:
    """Storage types of a config.json (`config` is the whole of it); bf16 throughout where it says nothing.

    Raises ModelError for a method that is not known. `expert_dtype` (DeepSeek-V4: "fp4", scales per 32 in ue8m0)
    overrides the experts.
    """
    if not config.has("quantization_config"):
        return Quantization()
    given = config.nested("quantization_config")
    method = given.text("quant_method", "modelopt" if given.has("quant_algo") else "")
    match method:
        case "fp8" | "fbgemm_fp8":
            dtype = "fp8_block" if given.has("weight_block_size") else "fp8"
            found = _built(dtype, _left_out(_patterns(given), layers))
        case "mxfp4":
            found = _built("mxfp4", _left_out(_patterns(given), layers) | {"mlp"})
        case "modelopt" | "modelopt_fp4" | "modelopt_fp8":
            found = _modelopt(given, layers)
        case "compressed-tensors":
            found = _compressed_tensors(given, layers)
        case "awq" | "gptq" | "auto-round":
            found = _integers(given, layers)
        case "bitsandbytes":
            found = _built("nf4" if given.boolean("load_in_4bit", False) else "int8", frozenset())
        case _:
            raise given.wrong(
                "quant_method", "is not known here", f"known are {_METHODS}; or leave quantization_config out"
            )
    if config.text("expert_dtype", "") == "fp4":
        found = replace(found, experts="mxfp4")
    return found
