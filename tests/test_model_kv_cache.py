"""KV-cache bytes: per token, per layer and for whole sequences with windows, chunks, states and compression."""

from dataclasses import replace
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_samples import CONFIGS

from simulator.errors import ModelError
from simulator.model.architecture import GroupedQueryAttention, Quantization
from simulator.model.catalogue import find_model
from simulator.model.from_config import architecture_from_config
from simulator.model.kv_cache import (
    fixed_state_bytes,
    kept_tokens,
    kv_bytes,
    kv_bytes_per_token,
    kv_elements_per_token,
    layer_kv_bytes,
    layer_kv_elements,
)

# Bytes a token in bf16: Mooncake's Qwen3-8B transfer sizes; DeepSeek-V2 report, table 1 (9/2 x 128 x 60 elements);
# LLaMA-3 405B (arXiv:2407.21783): 126 layers x 8 heads x 128 x 2.
PUBLISHED_BYTES_PER_TOKEN = {
    "Qwen/Qwen3-8B": 147_456,
    "deepseek-ai/DeepSeek-V2": 69_120,
    "deepseek-ai/DeepSeek-V3": 70_272,
    "meta-llama/Llama-3.1-405B": 516_096,
    "meta-llama/Llama-2-7b-hf": 524_288,
}


@pytest.mark.parametrize("name", PUBLISHED_BYTES_PER_TOKEN)
def test_bytes_per_token_match_published_ones(name: str) -> None:
    architecture = find_model(name)
    assert kv_bytes_per_token(architecture) == PUBLISHED_BYTES_PER_TOKEN[name]
    assert kv_bytes(architecture, 1000) == 1000 * PUBLISHED_BYTES_PER_TOKEN[name]
    fp8 = replace(architecture, quantization=Quantization(kv_cache="fp8"))
    assert kv_bytes_per_token(fp8) == PUBLISHED_BYTES_PER_TOKEN[name] / 2


def test_keys_and_values_of_different_width() -> None:
    mimo = architecture_from_config(CONFIGS["mimo_v2_flash"], "mimo")
    assert [layer_kv_elements(layer.attention) for layer in mimo.layers[:2]] == [4 * (18 + 12), 6 * (18 + 12)]


def test_windows_stop_growing_and_chunks_too() -> None:
    gpt_oss = architecture_from_config(CONFIGS["gpt_oss"], "gpt_oss")
    per_layer = layer_kv_bytes(gpt_oss.layers[0].attention, gpt_oss.quantization)
    assert kv_bytes(gpt_oss, 10) == 6 * 10 * per_layer
    assert kv_bytes(gpt_oss, 100) == (3 * 16 + 3 * 100) * per_layer
    llama4 = architecture_from_config(CONFIGS["llama4"], "llama4")
    assert [kept_tokens(layer.attention, 40) for layer in llama4.layers] == [16, 16, 16, 40, 16, 16]


def test_linear_attention_keeps_a_state_and_nothing_a_token() -> None:
    hybrid = architecture_from_config(CONFIGS["qwen3_next"], "hybrid")
    linear = hybrid.layers[0].attention
    assert layer_kv_elements(linear) == 0
    state, conv = 8 * 10 * 14 * 4, (2 * 4 * 10 + 8 * 14) * 3 * 2
    assert fixed_state_bytes(linear) == state + conv
    full = layer_kv_bytes(hybrid.layers[3].attention, hybrid.quantization)
    assert kv_bytes(hybrid, 50) - kv_bytes(hybrid, 20) == 30 * full
    assert kv_bytes(hybrid, 0) == 5 * (state + conv)


def test_compressed_entries_come_on_top_of_the_window() -> None:
    v4 = architecture_from_config(CONFIGS["deepseek_v4"], "v4")
    assert kv_elements_per_token(v4) == 6 * 20  # one shared head: keys are the values
    window_only, csa, hca = (layer.attention for layer in v4.layers[1:4])
    assert isinstance(csa, GroupedQueryAttention)
    assert (window_only.kv_compression, csa.kv_compression, hca.kv_compression) == (1, 4, 128)  # type: ignore[union-attr]
    one = replace(v4, layers=v4.layers[1:2])
    two = replace(v4, layers=v4.layers[3:4])
    assert kv_bytes(one, 256) == 16 * 40
    assert kv_bytes(two, 256) == (16 + 2) * 40


def test_the_indexers_keys_are_counted() -> None:
    sparse = architecture_from_config(CONFIGS["deepseek_v32"], "v32")
    plain = architecture_from_config(CONFIGS["deepseek_v3"], "v3")
    assert isclose(kv_bytes_per_token(sparse) - kv_bytes_per_token(plain), 6 * 8 * (1 + 4 / 128))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(CONFIGS)), st.integers(0, 3000), st.integers(0, 3000))
def test_a_cache_never_shrinks_and_never_exceeds_all_tokens(name: str, first: int, second: int) -> None:
    architecture = architecture_from_config(CONFIGS[name], name)
    short, long = sorted((first, second))
    assert kv_bytes(architecture, short) <= kv_bytes(architecture, long)
    states = sum(fixed_state_bytes(layer.attention) for layer in architecture.layers)
    compressed = 1.25 if name == "deepseek_v4" else 1.0  # entries of the tokens still in the window come on top
    assert kv_bytes(architecture, long) <= compressed * long * kv_bytes_per_token(architecture) + states + 1e-6


def test_negative_lengths_are_refused() -> None:
    with pytest.raises(ModelError, match="tokens: -1: must not be negative"):
        kv_bytes(find_model("Qwen/Qwen3-8B"), -1)
