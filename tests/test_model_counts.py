"""Parameter counts against published totals and against the derived table; weight bytes against checkpoints."""

import csv
from collections import Counter
from dataclasses import replace
from math import isclose
from unittest import mock

import pytest
from model_samples import CONFIGS, SHARED

from simulator.model import counts
from simulator.model.architecture import Architecture, MixtureOfExperts, Quantization
from simulator.model.catalogue import find_model
from simulator.model.counts import parameter_counts, weight_bytes
from simulator.model.from_config import architecture_from_config, load_config
from simulator.model.kv_cache import kv_elements_per_token
from simulator.model.parameters import layer_parameters, outer_parameters

# Billions of parameters (total, active) as model cards and reports state them, rounded as there; 0: not a mixture.
PUBLISHED = {
    "meta-llama/Llama-2-13b-hf": (13.02, 0),
    "meta-llama/Meta-Llama-3-8B": (8.03, 0),
    "meta-llama/Llama-3.1-70B": (70.6, 0),
    "meta-llama/Llama-3.1-405B": (406, 0),
    "meta-llama/Llama-3.2-1B": (1.24, 0),
    "meta-llama/Llama-3.2-3B": (3.21, 0),
    "meta-llama/Llama-4-Scout-17B-16E": (109, 17),
    "meta-llama/Llama-4-Maverick-17B-128E": (400, 17),
    "mistralai/Mistral-7B-v0.3": (7.25, 0),
    "mistralai/Mistral-Nemo-Base-2407": (12.2, 0),
    "mistralai/Mistral-Small-24B-Instruct-2501": (23.6, 0),
    "mistralai/Mistral-Large-Instruct-2407": (123, 0),
    "mistralai/Mixtral-8x7B-v0.1": (46.7, 12.9),
    "mistralai/Mixtral-8x22B-v0.1": (141, 39),
    "Qwen/Qwen2.5-0.5B": (0.49, 0),
    "Qwen/Qwen2.5-1.5B": (1.54, 0),
    "Qwen/Qwen2.5-3B": (3.09, 0),
    "Qwen/Qwen2.5-7B": (7.61, 0),
    "Qwen/Qwen2.5-14B": (14.7, 0),
    "Qwen/Qwen2.5-72B": (72.7, 0),
    "Qwen/Qwen1.5-MoE-A2.7B": (14.3, 2.7),
    "Qwen/Qwen2-57B-A14B": (57.4, 14),
    "Qwen/Qwen3-1.7B": (1.7, 0),
    "Qwen/Qwen3-4B": (4.0, 0),
    "Qwen/Qwen3-32B": (32.8, 0),
    "Qwen/Qwen3-30B-A3B": (30.5, 3.3),
    "Qwen/Qwen3-235B-A22B": (235, 22),
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": (480, 35),
    "Qwen/Qwen3-Next-80B-A3B-Instruct": (80, 3),
    "Qwen/Qwen3.5-397B-A17B": (397, 17),
    "deepseek-ai/deepseek-moe-16b-base": (16.4, 2.8),
    "deepseek-ai/DeepSeek-V2-Lite": (15.7, 2.4),
    "deepseek-ai/DeepSeek-V2": (236, 21),
    "deepseek-ai/DeepSeek-V3": (671, 37),
    "deepseek-ai/DeepSeek-V4-Flash": (284, 13),
    "moonshotai/Moonlight-16B-A3B": (16, 3),
    "moonshotai/Kimi-K2-Instruct": (1000, 32),
    "openai/gpt-oss-20b": (20.9, 3.6),
    "openai/gpt-oss-120b": (116.8, 5.1),
    "zai-org/GLM-4.5": (355, 32),
    "zai-org/GLM-4.5-Air": (106, 12),
    "zai-org/GLM-4.7-Flash": (30, 3),
    "zai-org/GLM-5": (744, 40),
    "MiniMaxAI/MiniMax-M2": (230, 10),
    "XiaomiMiMo/MiMo-V2-Flash": (309, 15),
    "01-ai/Yi-34B": (34.4, 0),
    "EleutherAI/gpt-j-6b": (6.05, 0),
    "tiiuae/falcon-7b": (6.92, 0),
    "tiiuae/falcon-40b": (41.8, 0),
    "tiiuae/falcon-180B": (180, 0),
    "facebook/opt-1.3b": (1.32, 0),
    "facebook/opt-13b": (12.9, 0),
    "facebook/opt-66b": (65.7, 0),
    "mosaicml/mpt-7b": (6.65, 0),
    "mosaicml/mpt-30b": (30, 0),
    "bigscience/bloom": (176.2, 0),
    "google/gemma-2-9b": (9.24, 0),
    "google/gemma-2-27b": (27.2, 0),
    "google/gemma-3-27b-it": (27, 0),
    "microsoft/phi-4": (14.7, 0),
    "nvidia/Nemotron-4-340B-Base": (340, 0),
    "openai-community/gpt2": (0.124, 0),
    "openai-community/gpt2-xl": (1.56, 0),
    "gpt3-175b": (175, 0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_and_active_parameters_match_the_model_cards(name: str) -> None:
    """Cards differ in whether embedding and head count as active, so the card's number lies between the two."""
    total, active = PUBLISHED[name]
    found = parameter_counts(find_model(name))
    assert isclose(found.total / 1e9, total, rel_tol=0.027 if total == 1000 else 0.013)
    kinds = dict(found.by_kind)
    outer = kinds["embedding"] + kinds.get("head", 0)
    rounding = 0.5 if active == int(active) else 0.05
    if active:
        assert (found.active - outer) / 1e9 - rounding <= active <= found.active / 1e9 + rounding
    else:
        assert found.active == found.total


APPROXIMATE = {
    "MiniMaxAI--MiniMax-M3": "the table counts the three dense layers at the experts' width and no block indexer",
    "Qwen--Qwen3.5-122B-A10B": "the table counts linear-attention layers as full attention, and no shared expert",
    "Qwen--Qwen3.5-397B-A17B": "the same",
    "XiaomiMiMo--MiMo-V2-Flash": "the table gives every layer the KV heads and value width of the full layers",
    "deepseek-ai--DeepSeek-V3.2": "the table leaves the indexer out (0.85 B)",
    "deepseek-ai--DeepSeek-V4-Flash": "the table knows no low-rank query and output projections",
    "deepseek-ai--DeepSeek-V4-Pro": "the same",
}


@pytest.mark.skipif(not SHARED.exists(), reason="the derived table is not beside this checkout")
def test_derived_table_is_met_within_its_rounding() -> None:
    """The table counts matrices only (no norms, biases, position tables), so `matrices` is compared."""
    rows = list(csv.DictReader((SHARED / "derived_param_counts.csv").read_text().splitlines()))
    assert len(rows) > 35
    for row in rows:
        architecture = load_config(SHARED / f"{row['model']}.json")
        found = parameter_counts(architecture)
        pairs = ((found.matrices / 1e9, row["params_B"]), (found.active_matrices / 1e9, row["active_B"]))
        same = all(abs(ours - float(theirs)) <= 0.0051 for ours, theirs in pairs)
        same &= kv_elements_per_token(architecture) == int(row["kv_elems_per_token"])
        assert same == (row["model"] not in APPROXIMATE), row["model"]


@pytest.mark.parametrize("name", CONFIGS)
def test_names_are_unique_and_counts_add_up(name: str) -> None:
    architecture = architecture_from_config(CONFIGS[name], name)
    found = parameter_counts(architecture)
    assert found.total == sum(size for _, size in found.by_kind)
    assert 0 < found.active_matrices <= found.matrices < found.total
    assert found.active <= found.total
    for layer in architecture.distinct_layers:
        names = Counter(p.name for p in layer_parameters(architecture, layer))
        assert max(names.values()) == 1
        assert all(size > 0 for p in layer_parameters(architecture, layer) for size in p.shape)
    sparse = any(isinstance(layer.feed_forward, MixtureOfExperts) for layer in architecture.layers)
    assert (found.active < found.total) == sparse


def test_a_dense_layer_by_hand() -> None:
    """hidden 96, 12 heads of 8, 4 KV heads, width 208, biases on all of them."""
    architecture = architecture_from_config(CONFIGS["llama"], "llama")
    attention = 96 * 96 + 2 * 32 * 96 + 96 * 96 + (96 + 2 * 32 + 96)
    mlp = 3 * 96 * 208 + 2 * 208 + 96
    assert sum(p.size for p in layer_parameters(architecture, architecture.layers[0])) == attention + mlp + 2 * 96
    assert parameter_counts(architecture).total == 6 * (attention + mlp + 2 * 96) + 2 * 997 * 96 + 96


def test_tying_the_embedding_saves_one_table() -> None:
    architecture = architecture_from_config(CONFIGS["llama"], "llama")
    tied = replace(architecture, tie_embeddings=True)
    assert parameter_counts(architecture).total - parameter_counts(tied).total == 997 * 96


# Bytes of the safetensors files on huggingface.co, in GB; DeepSeek's hold its prediction layer too (11.5 GB).
CHECKPOINT_GB = {
    "meta-llama/Llama-3.1-8B": 16.06,
    "openai/gpt-oss-120b": 65.25,
    "openai/gpt-oss-20b": 13.76,
    "moonshotai/Kimi-K2.5": 595,
}


@pytest.mark.parametrize("name", CHECKPOINT_GB)
def test_weight_bytes_match_published_checkpoints(name: str) -> None:
    assert isclose(weight_bytes(find_model(name)) / 1e9, CHECKPOINT_GB[name], rel_tol=0.005)


def _bytes(architecture: Architecture, **storage: str) -> float:
    return weight_bytes(replace(architecture, quantization=Quantization(**storage)))


def test_each_storage_type_changes_only_its_own_tensors() -> None:
    architecture = architecture_from_config(CONFIGS["deepseek_v3"], "v3")
    kinds = dict(parameter_counts(architecture).by_kind)
    plain = _bytes(architecture)
    assert plain == 2 * parameter_counts(architecture).total
    assert isclose(plain - _bytes(architecture, experts="fp8"), kinds["expert"])
    assert isclose(plain - _bytes(architecture, attention="fp8"), kinds["attention"])
    whole = kinds["attention"] + kinds["mlp"] + kinds["shared_expert"]
    assert isclose(plain - _bytes(architecture, weights="fp8"), whole)
    assert _bytes(architecture, kv_cache="fp8") == plain


def test_planted_bug_shared_experts_forgotten_is_seen() -> None:
    """The published total catches a list of tensors without shared experts."""
    v3 = find_model("deepseek-ai/DeepSeek-V3")

    def without_shared(architecture: Architecture, layer: object) -> tuple[object, ...]:
        return tuple(p for p in layer_parameters(architecture, layer) if p.kind != "shared_expert")  # type: ignore[arg-type]

    parameter_counts.cache_clear()
    with mock.patch.object(counts, "layer_parameters", without_shared):
        wrong = parameter_counts(v3)
    parameter_counts.cache_clear()
    assert wrong.active / 1e9 + 0.5 < PUBLISHED["deepseek-ai/DeepSeek-V3"][1]


def test_outer_tensors_of_gpt_hold_positions_and_no_head() -> None:
    names = [p.name for p in outer_parameters(architecture_from_config(CONFIGS["gpt2"], "gpt2"))]
    assert names == ["embed_tokens.weight", "norm.weight", "norm.bias", "embed_positions.weight"]
