"""Decode slots of the public separated TensorRT-LLM runs."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.validation.pd_recipes import decode_sequences, largest_size

ROW = {
    "gpu": "GB200-NVL72", "precision": "fp8", "model": "deepseek-ai/DeepSeek-R1-0528", "isl_nominal": 1024.0,
    "osl_nominal": 1024.0, "concurrency": 27.0, "decode_workers": 3.0, "decode_tp": 8.0, "decode_dp_attention": 1.0,
    "spec_decoding": "none", "date": "2026-02-05", "framework_version": "",
    "protocol": "InferenceX closed loop: request-rate inf",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, 8),  # ctx1_gen3_tep8_batch8_eplb0_mtp0_27
        ({"concurrency": 3}, 1),  # ..._batch1_..._3
        ({"decode_workers": 1, "decode_tp": 1, "decode_dp_attention": 32, "concurrency": 1127}, 32),  # ..._1127
        ({"decode_workers": 4, "precision": "fp4", "concurrency": 24}, 32),  # ctx1_gen4_tep8_batch32: 12 to 192
        ({"decode_workers": 4, "precision": "fp4", "concurrency": 5}, 1),  # ctx1_gen4_tep8_batch1
        ({"decode_workers": 4, "precision": "fp4", "concurrency": 24, "spec_decoding": "mtp"}, 8),
        ({"date": "dump 2026-07-20"}, 8),
        ({"gpu": "H200", "decode_workers": 9, "concurrency": 11}, 1),  # c1_ctx1_gen9_tep8_batch1
        ({"gpu": "H200", "decode_workers": 9, "concurrency": 36}, None),  # c4_ctx1_gen9_tep8_batch256
        ({"date": "2025-12-19"}, None),
        ({"model": "moonshotai/Kimi-K2.5"}, None),
        ({"protocol": "another"}, None),
    ],
)
def test_sizes_are_those_of_the_recipes(changes: dict[str, object], size: int | None) -> None:
    assert decode_sequences(SimpleNamespace(**(ROW | changes))) == size


@given(st.floats(0.01, 1e6), st.floats(0.0, 1e3))
def test_sizes_fit_and_grow(room: float, more: float) -> None:
    size = largest_size(room)
    assert size == 1 or room / 2 < size <= room
    assert size <= largest_size(room + more)
