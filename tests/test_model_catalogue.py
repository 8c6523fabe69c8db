"""Models by name: each description builds, agrees with real configs, and names are found or suggested."""

from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_samples import CONFIGS, SHARED

from simulator.errors import ModelError
from simulator.model.architecture import Architecture
from simulator.model.catalogue import entries, find_model, list_models, model_from
from simulator.model.from_config import load_config
from simulator.model.quantization import with_precision

DERIVED = {
    "Qwen/Qwen2.5-32B": "derived, without max_position_embeddings",
    "Qwen/Qwen2.5-72B": "derived, without max_position_embeddings",
    "deepseek-ai/DeepSeek-V2": "derived, without YaRN",
    "zai-org/GLM-4.5": "derived, without rope_theta and attention_bias",
    "zai-org/GLM-4.5-Air": "derived, without rope_theta and attention_bias",
    "nvidia/DeepSeek-V3.1-NVFP4": "storage is in hf_quant_config.json, which is not there",
}
"""Files beside this checkout that are not the whole config.json (their `_derived_from` says so)."""


def facts(architecture: Architecture) -> Architecture:
    return replace(architecture, name="", family="", source="", notes=())


def test_every_name_is_found_whatever_its_case() -> None:
    names = list_models()
    assert len(names) > 120
    for name in names:
        architecture = find_model(name)
        assert architecture.name == name
        assert architecture.source
        assert facts(find_model(name.upper())) == facts(architecture)


def test_the_catalogue_stays_small_and_sourced() -> None:
    folder = files("simulator.model") / "catalogue"
    assert sum(len(item.read_bytes()) for item in folder.iterdir()) < 60_000
    assert all("20" in entry.source for entry in entries())  # a year


@pytest.mark.skipif(not SHARED.exists(), reason="the real configs are not beside this checkout")
def test_descriptions_equal_the_real_configs() -> None:
    compared = 0
    for path in sorted(SHARED.glob("*.json")):
        if path.name.startswith("deepseek-native"):
            continue
        real = load_config(path)
        same = facts(find_model(real.name)) == facts(real)
        assert same == (real.name not in DERIVED), real.name
        compared += same
    assert compared > 30


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("llama3.1-70b", "meta-llama/Llama-3.1-70B"),
        ("Meta-Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B"),
        ("LLAMA3_8B", "meta-llama/Llama-3-8B"),
        ("deepseek r1", "deepseek-ai/DeepSeek-R1"),
        ("DeepSeekV3 (w/o MTP)", "deepseek-ai/DeepSeek-V3"),
        ("zhipuai/GLM-5", "zhipuai/GLM-5"),
        ("someone-elses-copy/gpt-oss-20b", "openai/gpt-oss-20b"),
    ],
)
def test_spellings_met_in_tables(written: str, name: str) -> None:
    assert find_model(written).name == name


def test_a_trailing_precision_sets_the_storage() -> None:
    plain = find_model("Llama-4-Scout-17B-16E")
    stored = find_model("Llama-4-Scout-17B-16E FP8")
    assert stored.quantization == with_precision(plain.quantization, "fp8")
    assert stored.layers == plain.layers


def test_variants_store_what_their_checkpoints_do() -> None:
    nvfp4 = find_model("nvidia/DeepSeek-R1-0528-NVFP4").quantization
    assert (nvfp4.weights, nvfp4.experts, nvfp4.attention) == ("nvfp4", "nvfp4", "bf16")
    kimi = find_model("moonshotai/Kimi-K2.5").quantization
    assert (kimi.weights, kimi.experts, kimi.int4_group) == ("bf16", "int4", 32)
    assert find_model("openai/gpt-oss-120b").quantization.experts == "mxfp4"
    assert find_model("deepseek-ai/DeepSeek-R1").quantization.weights == "fp8_block"


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(ModelError, match=r"did you mean .*Llama-3\.1-70B"):
        find_model("meta-llama/Llama-3.1-71B")
    with pytest.raises(ModelError, match="is not a model that ships"):
        find_model("llama3-70b (12 layers)")


def test_a_short_name_of_two_checkpoints_is_not_guessed() -> None:
    with pytest.raises(ModelError, match="names several models"):
        find_model("Llama-3.1-405B-Instruct-FP8")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_found_or_refused(text: str) -> None:
    told = ""
    try:
        find_model(text)
    except ModelError as error:
        told = str(error)
    assert not told or "model: " in told


def test_paths_are_told_from_names() -> None:
    assert model_from("Qwen3-8B").name == "Qwen/Qwen3-8B"
    with pytest.raises(ModelError, match="no such file"):
        model_from("./nowhere/config.json")
    assert "llama" in CONFIGS
