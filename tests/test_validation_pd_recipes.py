"""What the public recipes say beyond a row: decode slots, layouts, images that draft."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.validation import table_closed_loop
from simulator.validation.context import Context
from simulator.validation.pd_recipes import decode_sequences, largest_size
from simulator.validation.table_pd import Pool, pools_of

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


PD = ROW | {
    "framework": "TensorRT-LLM", "framework_version": "tensorrtllm-runtime:0.8.1.post2", "gpu": "GB200", "gpus": 32,
    "prefill_gpus": 8, "decode_gpus": 24, "prefill_workers": 1, "prefill_tp": 1, "prefill_pp": 1, "prefill_ep": 8,
    "prefill_dp_attention": 8, "decode_pp": 1, "decode_ep": 8, "range_ratio": 0.8, "num_prompts": 270,
}  # fmt: skip


def pools(**changes: object) -> tuple[Pool, Pool]:
    return pools_of(pd.Series(PD | changes), Context(Path("/nowhere")))


def test_only_decode_workers_of_tensorrt_llm_have_the_recipes_slots() -> None:
    prefill, decode = pools()
    assert decode.policy.max_sequences == 8
    assert prefill.policy.max_sequences > 8
    assert pools(framework="SGLang", framework_version="v0.5.8")[1].policy.max_sequences > 8


@pytest.mark.parametrize(
    ("decode", "expected"),
    [((8, 1), (1, 8, 8)), ((4, 1), (4, 1, 1)), ((8, 8), (1, 8, 8)), ((1, 1), (8, 1, 1))],
)
def test_sglangs_entries_mean_what_their_recipes_do(decode: tuple[int, int], expected: tuple[int, int, int]) -> None:
    """(attention ranks, ep) as recorded -> (tp, attention ranks, ep) as run."""
    ranks, ep = decode
    tp = 8 if ranks == 1 else 1
    found = pools(
        framework="SGLang", framework_version="v0.5.8", decode_tp=tp, decode_dp_attention=ranks, decode_ep=ep
    )[1].setup.layout  # fmt: skip
    assert (found.tp, found.dp_attention, found.ep) == expected


def test_drafting_images_are_served_apart_from_others() -> None:
    """One server's table serves rows of one image each, though all else is equal."""
    plain = {
        "gpu": "B200", "gpus": 8, "nodes": 1, "framework": "TensorRT-LLM", "model": "deepseek-ai/DeepSeek-R1",
        "precision": "fp8", "tp": 8, "pp": 1, "ep": 1, "dp_attention": 1, "isl_nominal": 128, "osl_nominal": 64,
        "range_ratio": 0.8, "concurrency": 4, "num_prompts": 8, "protocol": ROW["protocol"], "spec_decoding": "none",
        "date": "2026-02-05",
    }  # fmt: skip
    images = ("tensorrt-llm/release:1.2.0rc6.post2", "tensorrt-llm/release:1.2.0rc6.post3")
    frame = pd.DataFrame([plain | {"framework_version": image} for image in images])
    nowhere = Context(Path("/nowhere"))
    both = table_closed_loop.predict(frame, nowhere).predicted_mean_tpot_s
    alone = [table_closed_loop.predict(frame.loc[[i]], nowhere).predicted_mean_tpot_s[i] for i in frame.index]
    assert both.tolist() == alone
    assert both[1] < both[0]
