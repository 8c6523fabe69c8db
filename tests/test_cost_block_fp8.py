"""Block-scaled fp8 in prompt steps: only where a profile says so, by GPU generation, from many tokens on."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost.engine_profile import BLOCK_FP8_TOKENS, find_engine

FEW, MANY = BLOCK_FP8_TOKENS
ENGINE = replace(find_engine("SGLang"), block_fp8_shares=(("blackwell", 0.6),), latent_fp8_s=7e-6)


@given(tokens=st.integers(0, 40_000), table_s=st.floats(1e-6, 1.0))
def test_other_generations_pay_only_for_latent_attention(tokens: int, table_s: float) -> None:
    assert ENGINE.block_fp8_time_s("hopper", tokens, table_s) == table_s
    assert ENGINE.block_fp8_time_s("hopper", tokens, table_s, latent=True) == pytest.approx(table_s + 7e-6)


@given(tokens=st.integers(0, 40_000), more=st.integers(1, 5_000))
def test_more_tokens_never_run_faster(tokens: int, more: int) -> None:
    assert ENGINE.block_fp8_time_s("blackwell", tokens, 3e-4) <= ENGINE.block_fp8_time_s(
        "blackwell", tokens + more, 3e-4
    )


def test_few_tokens_run_as_in_the_tables_and_many_at_the_share() -> None:
    assert ENGINE.block_fp8_time_s("blackwell", FEW, 3e-4) == pytest.approx(3.0e-4)
    assert ENGINE.block_fp8_time_s("blackwell", MANY, 3e-4) == pytest.approx(5.0e-4)
    assert ENGINE.block_fp8_time_s("blackwell", (FEW + MANY) // 2, 3e-4) == pytest.approx(4.0e-4)


def test_versions_of_tensorrt_llm_differ_at_1_2() -> None:
    old, new = find_engine("TensorRT-LLM", "1.1.0rc2"), find_engine("TensorRT-LLM", "1.3.0rc14")
    assert old.latent_fp8_s > 0.0
    assert new.latent_fp8_s == 0.0
    assert find_engine("TensorRT-LLM") == new
