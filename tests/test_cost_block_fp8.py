"""Block-scaled fp8 in prompt steps: only where a profile says so, by GPU generation, from many tokens on."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost.engine_profile import BLOCK_FP8_TOKENS, find_engine
from simulator.cost.table import Setup
from simulator.cost.table.direct import DirectPricer
from simulator.hardware.catalogue import find_device
from simulator.model.catalogue import find_model
from simulator.model.quantization import with_precision
from simulator.parallel.layout import Layout
from simulator.program.ops import Linear
from simulator.program.work import Sequence, Work
from simulator.validation.links import group_links

FEW, MANY = BLOCK_FP8_TOKENS
QUANTISER = find_engine("TensorRT-LLM", "1.2.0")
ENGINE = replace(find_engine("SGLang"), block_fp8_shares=(("blackwell", 0.6),))


@given(tokens=st.integers(0, 40_000), table_s=st.floats(1e-6, 1.0))
def test_other_generations_run_as_in_the_tables(tokens: int, table_s: float) -> None:
    assert ENGINE.block_fp8_time_s("hopper", tokens, table_s) == table_s


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
    assert 0.0 < new.latent_quantise_s < old.latent_quantise_s
    assert find_engine("TensorRT-LLM") == new


@pytest.mark.parametrize(("model", "extra"), [("deepseek-ai/DeepSeek-V3", True), ("Qwen/Qwen3-235B-A22B", False)])
def test_only_models_with_latent_attention_pay_for_quantising(model: str, extra: bool) -> None:
    """In fp8 blocks both; the extra is a constant for each product."""
    architecture = find_model(model)
    architecture = replace(architecture, quantization=with_precision(architecture.quantization, "fp8_block"))
    links = group_links("H200-SXM", 2, 8)
    plain = Setup(architecture, Layout(tp=2), find_device("H200"), lambda _axes: links, QUANTISER)
    slow = replace(plain, engine=replace(QUANTISER, latent_quantise_s=QUANTISER.latent_quantise_s + 1e-5))
    op = next(
        op for segment in DirectPricer(plain).program(0, Work((Sequence(0, 1, 9),)), 0.0).segments
        for op in segment.ops if isinstance(op, Linear) and op.dtype == "fp8_block"
    )  # fmt: skip
    more = DirectPricer(slow).op(op, -1).time_s - DirectPricer(plain).op(op, -1).time_s
    assert more == pytest.approx(1e-5 if extra else 0.0)
