"""An Architecture from a Hugging Face config.json, or from DeepSeek's own inference config."""

import json
from collections.abc import Mapping
from pathlib import Path

from simulator.errors import ModelError
from simulator.model.architecture import Architecture
from simulator.model.config_reader import ConfigReader
from simulator.model.families import classic, common, deepseek, gemma, glm, gpt, hybrid, llama, minimax, mixture
from simulator.model.families.deepseek_v4 import deepseek_v4
from simulator.model.families.llama4 import llama4
from simulator.model.families.native import from_native, is_native

FAMILIES: dict[str, common.Family] = {
    "llama": llama.llama,
    "mistral": llama.llama,
    "qwen2": llama.qwen2,
    "qwen3": llama.qwen3,
    "mixtral": mixture.mixtral,
    "qwen2_moe": mixture.qwen2_moe,
    "qwen3_moe": mixture.qwen3_moe,
    "gpt_oss": mixture.gpt_oss,
    "deepseek": deepseek.deepseek_moe,
    "deepseek_v2": deepseek.deepseek_v2,
    "deepseek_v3": deepseek.deepseek_v3,
    "deepseek_v32": deepseek.deepseek_v32,
    "deepseek_v4": deepseek_v4,
    "bloom": classic.bloom,
    "falcon": classic.falcon,
    "gemma": gemma.gemma,
    "gemma2": gemma.gemma2,
    "gemma3": gemma.gemma3,
    "gptj": classic.gptj,
    "mpt": classic.mpt,
    "nemotron": gemma.nemotron,
    "opt": classic.opt,
    "phi3": llama.llama,
    "glm4_moe": glm.glm4_moe,
    "glm4_moe_lite": glm.glm4_moe_lite,
    "glm_moe_dsa": glm.glm_moe_dsa,
    "gpt2": gpt.gpt,
    "gpt3": gpt.gpt,
    "kimi_k2": deepseek.deepseek_v3,
    "llama4": llama4,
    "mimo_v2_flash": minimax.mimo_v2,
    "minimax_m2": minimax.minimax_m2,
    "minimax_m3": minimax.minimax_m3,
    "qwen3_5": hybrid.hybrid_dense,
    "qwen3_5_moe": hybrid.hybrid_moe,
    "qwen3_next": hybrid.hybrid_moe,
}
"""Readers by `model_type`."""


def _text_part(config: ConfigReader) -> ConfigReader:
    """The language model of a multimodal config; keys it leaves out are taken from the outer object."""
    if not config.has("text_config"):
        return config
    inner = config.nested("text_config")
    outer = {key: config.items[key] for key in ("tie_word_embeddings", "quantization_config") if config.has(key)}
    return ConfigReader({**outer, **{k: v for k, v in inner.items.items() if v is not None}}, inner.where)


def _family(outer: ConfigReader, text: ConfigReader) -> str:
    """The `model_type` to read by: the outer one where known, else the inner one; a trailing _text is dropped."""
    kinds = [reader.text("model_type").removesuffix("_text") for reader in (outer, text) if reader.has("model_type")]
    if not kinds:
        raise outer.wrong("model_type", "is required", "give the model's whole config.json")
    for kind in kinds:
        if kind in FAMILIES:
            return kind
    raise ModelError(
        where=f"{outer.where}: model_type",
        given=repr(kinds[0]),
        rule="is not a family known here",
        way_out=f"known are {', '.join(sorted(FAMILIES))}",
    )


def _common_names(family: str, text: ConfigReader) -> ConfigReader:
    if family in ("gpt2", "gpt3"):
        return gpt.gpt_names(text)
    return classic.classic_names(family, text) if family in classic.OWN_NAMES else text


def architecture_from_config(config: Mapping[str, object], name: str, source: str = "") -> Architecture:
    """The architecture a config.json describes.

    `config` is the parsed JSON object; `name` appears in the architecture and in errors; `source` says
    where the config came from. Raises ModelError for a missing key, a wrong type, a size that is not
    finite and positive, head counts that do not divide, or an unknown `model_type`.
    """
    outer = ConfigReader(config, source or name)
    if is_native(outer):
        outer = from_native(outer)
    text = _text_part(outer)
    family = _family(outer, text)
    text = _common_names(family, text)
    body = FAMILIES[family](text)
    return common.architecture(text, family, name, source, body)


def read_json_object(path: Path) -> Mapping[str, object]:
    """A JSON object from a file; ModelError where it is missing, unreadable or something else."""
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            where=str(path), given="", rule="no such file", way_out="give the path of a config.json"
        ) from None
    except (OSError, UnicodeDecodeError) as failure:
        raise ModelError(where=str(path), given="", rule=f"cannot be read: {failure}") from None
    except (json.JSONDecodeError, RecursionError) as failure:
        raise ModelError(
            where=str(path), given="", rule=f"is not JSON: {failure}", way_out="give a Hugging Face config.json"
        ) from None
    if not isinstance(parsed, dict):
        raise ModelError(
            where=str(path),
            given=type(parsed).__name__,
            rule="must be a JSON object",
            way_out="give a Hugging Face config.json",
        )
    return parsed


def load_config(path: str | Path) -> Architecture:
    """The architecture of a config.json on disk (or of the folder that holds one), named after file or folder.

    A `hf_quant_config.json` beside config.json (NVIDIA ModelOpt) is read where config.json says nothing of storage.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        place = place / "config.json"
    name = place.parent.resolve().name if place.name == "config.json" else place.stem.replace("--", "/", 1)
    config = read_json_object(place)
    beside = place.parent / "hf_quant_config.json"
    if place.name == "config.json" and beside.exists() and "quantization_config" not in config:
        config = {**config, "quantization_config": read_json_object(beside).get("quantization")}
    return architecture_from_config(config, name, source=str(place))
