"""config.json to Architecture: each family's facts land in the right fields; bad input gives one clear error."""

import copy
import json
from dataclasses import replace
from math import isclose, log, sqrt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_samples import CONFIGS, SHARED

from simulator.errors import ModelError
from simulator.model.architecture import (
    Architecture,
    DenseMlp,
    GroupedQueryAttention,
    LatentAttention,
    LinearAttention,
    MixtureOfExperts,
)
from simulator.model.from_config import FAMILIES, architecture_from_config, load_config


def read(name: str, **changes: Any) -> Architecture:
    return architecture_from_config({**CONFIGS[name], **changes}, name)


def grouped(architecture: Architecture, layer: int = 0) -> GroupedQueryAttention:
    attention = architecture.layers[layer].attention
    assert isinstance(attention, GroupedQueryAttention)
    return attention


def latent(architecture: Architecture) -> LatentAttention:
    attention = architecture.layers[0].attention
    assert isinstance(attention, LatentAttention)
    return attention


def routed(architecture: Architecture, layer: int = -1) -> MixtureOfExperts:
    block = architecture.layers[layer].feed_forward
    assert isinstance(block, MixtureOfExperts)
    return block


def is_routed(architecture: Architecture) -> list[bool]:
    return [isinstance(layer.feed_forward, MixtureOfExperts) for layer in architecture.layers]


def test_every_family_has_a_sample_here() -> None:
    assert set(FAMILIES) <= {*CONFIGS, "gpt3"}


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_are_read_and_equal_layers_are_one_object(name: str) -> None:
    architecture = read(name)
    assert (architecture.hidden, architecture.vocab) == (96, 997)
    assert len(architecture.layers) == (5 if name == "gpt2" else 6)
    assert len({id(layer) for layer in architecture.layers}) == len(architecture.distinct_layers)
    assert hash(architecture) == hash(read(name))


def test_llama_biases_and_scale() -> None:
    architecture = read("llama")
    attention = grouped(architecture)
    assert (attention.heads, attention.kv_heads, attention.head_dim) == (12, 4, 8)
    assert attention.qkv_bias
    assert attention.output_bias
    assert isclose(attention.scale, 1 / sqrt(8))
    assert architecture.norm_eps == 3e-6
    assert architecture.layers[0].feed_forward == DenseMlp(208, bias=True)
    assert not grouped(read("llama", attention_bias=False)).qkv_bias


def test_mistral_slides_in_all_layers_and_keeps_its_own_head_dim() -> None:
    assert {grouped(read("mistral"), i).window for i in range(6)} == {48}
    assert grouped(read("mistral")).head_dim == 10
    assert grouped(read("mistral", sliding_window=None)).window is None


def test_qwen_windows_need_the_switch_and_start_late() -> None:
    assert grouped(read("qwen2", sliding_window=48)).window is None
    late = read("qwen2", sliding_window=48, use_sliding_window=True, max_window_layers=4)
    assert [grouped(late, i).window for i in range(6)] == [None] * 4 + [48] * 2


def test_qwen_norms_and_biases() -> None:
    assert (grouped(read("qwen2")).qkv_bias, grouped(read("qwen2")).output_bias) == (True, False)
    assert grouped(read("qwen3")).qk_norm == "head"
    assert read("qwen3").tie_embeddings


def test_routers() -> None:
    assert routed(read("mixtral")).router.normalize
    assert not routed(read("qwen2_moe")).router.normalize
    assert routed(read("qwen3_moe")).router.normalize
    assert routed(read("gpt_oss")).router.scoring == "softmax_topk"
    v2, v3 = routed(read("deepseek_v2")).router, routed(read("deepseek_v3")).router
    assert (v2.scoring, v2.group_score, v2.correction_bias, v2.normalize) == ("softmax", "max", False, False)
    assert (v3.scoring, v3.group_score, v3.correction_bias, v3.normalize) == ("sigmoid", "top2_sum", True, True)
    assert (v3.groups, v3.groups_kept, v3.routed_scale) == (4, 2, 2.5)
    assert routed(read("deepseek_v2", topk_method="greedy")).router.groups == 1
    assert routed(read("llama4")).router.scale_input


def test_which_layers_are_routed() -> None:
    assert is_routed(read("deepseek_v3")) == [False, False, True, True, True, True]
    assert is_routed(read("qwen2_moe")) == [False, True] * 3
    assert is_routed(read("qwen3_moe", mlp_only_layers=[1, 4])) == [True, False, True, True, False, True]
    assert is_routed(read("llama4")) == [False, True] * 3
    assert is_routed(read("mimo_v2_flash")) == [False] + [True] * 5


def test_shared_experts_are_taken_together() -> None:
    assert routed(read("deepseek_v3")).shared_intermediate == 2 * 40
    assert (routed(read("qwen2_moe")).shared_intermediate, routed(read("qwen2_moe")).shared_gate) == (56, True)


def test_latent_scale_holds_yarns_temperature_squared() -> None:
    """arXiv:2309.00071's 0.1 ln(s) + 1, squared since both q and k carry it (DeepSeek-V3's published code)."""
    attention = latent(read("deepseek_v3"))
    assert isclose(attention.scale, 16**-0.5 * (0.1 * log(40) + 1) ** 2)
    assert isclose(latent(read("deepseek_v3", rope_scaling=None)).scale, 0.25)
    assert (attention.rope.interleaved, attention.rope.dim) == (True, 6)
    assert dict(attention.rope.scaling)["rope_type"] == "yarn"


def test_old_and_new_spelling_of_rope_agree() -> None:
    old = read("llama", rope_theta=123.0, rope_scaling={"type": "linear", "factor": 3})
    new = read("llama", rope_theta=None, rope_parameters={"rope_type": "linear", "rope_theta": 123.0, "factor": 3})
    assert old.layers == new.layers
    assert grouped(old).rope == grouped(new).rope
    assert grouped(read("llama", rope_parameters={"rope_type": "default", "rope_theta": 5.0})).rope != grouped(old).rope


def test_partial_rotation_truncates_to_what_the_model_uses() -> None:
    rope = grouped(read("mimo_v2_flash")).rope
    assert rope is not None
    assert rope.dim == 6  # int(18 x 0.334)
    halves = grouped(read("glm4_moe")).rope
    assert halves is not None
    assert halves.dim == 4


def test_gpt_oss_alternates_windows_sliding_first() -> None:
    architecture = read("gpt_oss")
    assert [grouped(architecture, i).window for i in range(6)] == [16, None] * 3
    assert grouped(architecture).sinks
    assert routed(architecture).bias
    assert routed(architecture).activation == "clamped_swiglu"
    assert read("gpt_oss", swiglu_limit=9.0).numbers_refused


def test_llama4_leaves_positions_out_of_every_fourth_layer() -> None:
    architecture = read("llama4")
    assert [grouped(architecture, i).rope is None for i in range(6)] == [False, False, False, True, False, False]
    assert (grouped(architecture, 0).chunk, grouped(architecture, 3).chunk) == (16, None)
    assert (grouped(architecture, 0).qk_norm, grouped(architecture, 3).qk_norm) == ("l2", "none")
    assert grouped(architecture, 3).temperature_tuning == (0.1, 8192.0)
    assert architecture.layers[0].feed_forward == DenseMlp(304)


def test_mimo_has_other_kv_heads_in_its_windows() -> None:
    architecture = read("mimo_v2_flash")
    assert [grouped(architecture, i).kv_heads for i in range(6)] == [4, 6, 6, 4, 6, 6]
    assert [grouped(architecture, i).window for i in range(6)] == [None, 16, 16, None, 16, 16]
    assert (grouped(architecture).head_dim, grouped(architecture).v_head_dim) == (18, 12)


def test_hybrid_layers() -> None:
    architecture = read("qwen3_next")
    kinds = [isinstance(layer.attention, LinearAttention) for layer in architecture.layers]
    assert kinds == [True, True, True, False, True, True]
    assert grouped(architecture, 3).output_gate
    assert not is_routed(read("qwen3_5"))[0]


def test_gpt_has_layer_norm_and_learned_positions() -> None:
    architecture = read("gpt2")
    assert (architecture.norm, architecture.learned_positions, architecture.tie_embeddings) == ("layer", 128, True)
    assert grouped(architecture).rope is None
    assert architecture.layers[0].feed_forward == DenseMlp(384, gated=False, activation="gelu_tanh", bias=True)


def test_native_deepseek_config_equals_the_hugging_face_one() -> None:
    native = {
        "vocab_size": 997, "dim": 96, "inter_dim": 208, "moe_inter_dim": 40, "n_layers": 6, "n_dense_layers": 2,
        "n_heads": 12, "n_routed_experts": 12, "n_shared_experts": 2, "n_activated_experts": 3, "n_expert_groups": 4,
        "n_limited_groups": 2, "route_scale": 2.5, "score_func": "sigmoid", "q_lora_rank": 36, "kv_lora_rank": 28,
        "qk_nope_head_dim": 10, "qk_rope_head_dim": 6, "v_head_dim": 14,
    }  # fmt: skip
    ours = architecture_from_config(native, "n")
    scaling = {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}
    scaling["original_max_position_embeddings"] = 4096
    theirs = read("deepseek_v3", rope_theta=10000.0, rope_scaling=scaling, num_key_value_heads=12)
    assert ours.layers == theirs.layers


def test_priced_only_models_say_why() -> None:
    refused = {name for name in CONFIGS if read(name).numbers_refused}
    priced_only = {"deepseek_v32", "glm_moe_dsa", "minimax_m3", "mimo_v2_flash", "qwen3_next", "qwen3_5", "qwen3_5_moe"}
    older = {"gptj", "falcon", "opt", "mpt", "bloom", "gemma", "gemma2", "gemma3", "nemotron"}
    assert refused == priced_only | older | {"deepseek_v4"}


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"hidden_size": None}, "hidden_size: None: is required"),
    ("llama", {"hidden_size": "96"}, "hidden_size: '96': must be a whole number"),
    ("llama", {"hidden_size": -96}, "hidden_size: -96: must be at least 1"),
    ("llama", {"hidden_size": float("nan")}, "hidden_size: nan: must be a whole number"),
    ("llama", {"rms_norm_eps": float("inf")}, "rms_norm_eps: inf: must be finite"),
    ("llama", {"rope_theta": -1}, "rope_theta: -1: must be finite and above zero"),
    ("llama", {"num_key_value_heads": 5}, "num_key_value_heads: 5: must divide num_attention_heads = 12"),
    ("llama", {"num_attention_heads": 7}, "num_attention_heads: 7: must divide hidden_size = 96"),
    ("llama", {"num_hidden_layers": 10**9}, "must be at most 10000"),
    ("llama", {"model_type": "mamba"}, "known are bloom, deepseek"),
    ("llama", {"model_type": None}, "model_type: None: is required"),
    ("llama", {"rope_scaling": {"type": "yarn"}}, "factor: missing: is required"),
    ("llama", {"rope_scaling": [1]}, "rope_scaling: [1]: must be a JSON object"),
    ("llama", {"rope_scaling": {"type": "magic"}}, "must be one of default, linear"),
    ("llama", {"hidden_act": "tanh"}, "hidden_act: 'tanh': must be one of silu"),
    ("mistral", {"layer_types": ["full_attention"]}, "must have one entry a layer (6), has 1"),
    ("mixtral", {"num_experts_per_tok": 7}, "must not exceed num_local_experts = 6"),
    ("deepseek_v3", {"n_group": 5}, "n_group: 5: must divide n_routed_experts = 12"),
    ("deepseek_v3", {"topk_group": 5}, "must not exceed n_group = 4"),
    ("deepseek_v3", {"num_experts_per_tok": 7}, "leaves fewer than num_experts_per_tok = 7"),
    ("deepseek_v3", {"first_k_dense_replace": 7}, "must not exceed num_hidden_layers = 6"),
    ("deepseek_v3", {"qk_rope_head_dim": 7}, "must be even"),
    ("qwen3_next", {"linear_num_value_heads": 6}, "must be a multiple of linear_num_key_heads = 4"),
    ("gpt2", {"gated_mlp": True}, "must be false"),
    ("minimax_m2", {"rotary_dim": 12}, "from 2 to head_dim = 10"),
    ("llama", {"quantization_config": {"quant_method": "magic"}}, "known are fp8"),
]


@pytest.mark.parametrize(("name", "changes", "told"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_values_are_told_with_place_value_and_rule(name: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError) as failure:
        read(name, **changes)
    assert told in str(failure.value)
    assert str(failure.value).startswith(f"{name}: ")


_JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(sorted(CONFIGS)))
def test_any_junk_in_any_field_is_read_or_told_as_one_model_error(data: st.DataObject, name: str) -> None:
    config = copy.deepcopy(CONFIGS[name])
    inner = config.get("text_config", config)
    for key in data.draw(st.lists(st.sampled_from(sorted(inner)), min_size=1, max_size=3)):
        inner[key] = data.draw(_JUNK)
    told = ""
    try:
        architecture_from_config(config, "junk")
    except ModelError as error:
        told = str(error)
    assert not told or ("junk" in told and len(told) < 600)


def test_files_that_are_no_config(tmp_path: Path) -> None:
    broken, listed = tmp_path / "broken.json", tmp_path / "listed.json"
    broken.write_text("{'single': 1}")
    listed.write_text("[1, 2]")
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, rule in ((tmp_path / "none.json", "no such file"), (broken, "is not JSON"), (listed, "JSON object")):
        with pytest.raises(ModelError, match=rule) as failure:
            load_config(path)
        assert str(failure.value).startswith(str(path))
    with pytest.raises(ModelError, match="cannot be read"):
        load_config(binary)


def test_a_folder_is_read_with_the_quantisation_file_beside(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIGS["llama"]))
    plain = load_config(folder)
    assert plain.name == "tiny-llama"
    quantised = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (folder / "hf_quant_config.json").write_text(json.dumps(quantised))
    stored = load_config(folder).quantization
    assert (stored.weights, stored.kv_cache) == ("nvfp4", "fp8")
    assert replace(load_config(folder), quantization=plain.quantization) == plain


def _real() -> list[Path]:
    return sorted(SHARED.glob("*.json")) if SHARED.exists() else []


@pytest.mark.skipif(not SHARED.exists(), reason="the real configs are not beside this checkout")
def test_every_real_config_loads() -> None:
    paths = _real()
    assert len(paths) >= 40
    for path in paths:
        architecture = load_config(path)
        assert len(architecture.layers) >= 24
        assert architecture.source == str(path)
