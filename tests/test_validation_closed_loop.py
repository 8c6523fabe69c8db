"""The closed-loop table: rows become servers, protocols are replayed, and what cannot be said is refused by name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulator.engine.server import kv_memory_bytes, memory_for
from simulator.hardware.catalogue import find_device
from simulator.model.architecture import Quantization
from simulator.model.catalogue import find_model
from simulator.validation.context import Context
from simulator.validation.fit_serving import errors, with_launch
from simulator.validation.launch_settings import lengths
from simulator.validation.run import predict_table
from simulator.validation.serving_setup import (
    engine_profile,
    policy_for,
    poll_steps,
    same_server,
    server,
    setup_of,
    stored,
    with_cache,
)
from simulator.validation.table_closed_loop import OUTCOMES, predict, replay
from simulator.validation.table_speculative import predict as predict_speculative
from simulator.validation.tables import OUTCOMES as ALL_OUTCOMES
from simulator.validation.tables import read_table

DATA = Path(__file__).parents[1].parent / "shared" / "data"
ROW = {
    "gpu": "H100", "gpus": 4, "nodes": 1, "framework": "vLLM", "framework_version": None,
    "model": "meta-llama/Llama-3.1-70B", "precision": "fp8", "tp": 4, "pp": 1, "ep": 1, "dp_attention": 1,
    "isl_nominal": 512, "osl_nominal": 128, "range_ratio": 0.8, "concurrency": 4, "num_prompts": 40,
    "protocol": "InferenceX closed loop: as documented",
}  # fmt: skip


def rows(*changes: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([ROW | change for change in changes], index=[7 * i + 3 for i in range(len(changes))])


def context() -> Context:
    return Context(Path("/nowhere"))


def test_every_outcome_of_every_row_in_its_own_place() -> None:
    frame = rows({}, {"concurrency": 16, "num_prompts": 160}, {"gpu": "H200", "range_ratio": None, "num_prompts": None})
    answer = predict(frame, context())
    assert list(answer.index) == [3, 10, 17]
    assert np.isfinite(answer[[f"predicted_{name}" for name in OUTCOMES]].to_numpy(float)).all()
    assert (answer.not_covered_because == "").all()
    few, many = answer.loc[3], answer.loc[10]
    assert many.predicted_mean_tpot_s > few.predicted_mean_tpot_s
    assert many.predicted_output_tokens_per_s_per_gpu > 2 * few.predicted_output_tokens_per_s_per_gpu
    assert (answer.predicted_p99_ttft_s >= answer.predicted_median_ttft_s).all()
    # Less of what is read, at more bytes a second: H200 decodes faster.
    assert answer.loc[17].predicted_mean_tpot_s < few.predicted_mean_tpot_s


def test_each_refusal_stands_at_its_row() -> None:
    frame = rows(
        {}, {"framework": "LMDeploy"}, {"gpu": "H900"}, {"tp": 1, "gpus": 1, "precision": "bf16"}, {"model": "no/such"}
    )
    answer = predict(frame, context())
    reasons = answer.not_covered_because.tolist()
    assert reasons[0] == ""
    for reason, said in zip(reasons[1:], ("no scheduler", "H900", "leave none of", "no/such"), strict=True):
        assert said in reason
    assert answer.predicted_mean_tpot_s.notna().tolist() == [True, False, False, False, False]


def test_rows_with_an_undocumented_protocol_stand_in_a_group_of_their_own() -> None:
    answer = predict(rows({}, {"protocol": "some gap analysis"}), context())
    assert answer.group.tolist() == ["H100", "H100, protocol assumed"]


def test_copies_of_a_model_share_a_server() -> None:
    named = [
        setup_of(rows({"model": name, "gpu": "H200", "tp": 8, "gpus": 8}).iloc[0], context())
        for name in ("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3", "meta-llama/Llama-3.1-70B")
    ]
    assert same_server(named[0]) == same_server(named[1]) != same_server(named[2])


def test_stored_as_the_row_says() -> None:
    plain, block = find_model("meta-llama/Llama-3.1-70B"), find_model("deepseek-ai/DeepSeek-R1")
    assert stored(plain, "").quantization == plain.quantization
    assert stored(plain, "fp8").quantization.weights == "fp8"
    assert stored(block, "fp8").quantization.weights == "fp8_block"
    four = stored(block, "fp4").quantization
    assert (four.experts, four.attention) == ("nvfp4", "bf16")
    assert stored(plain, "fp4").quantization.attention == ""
    assert stored(find_model("openai/gpt-oss-120b"), "fp4").quantization.experts == "mxfp4"


def test_servers_are_started_as_the_public_runs_start_them() -> None:
    hopper, blackwell, cdna = (find_device(name) for name in ("H200", "B200", "MI300X"))
    assert [poll_steps("sglang", blackwell, c) for c in (4, 16)] == [10, 30]
    assert (poll_steps("sglang", hopper, 64), poll_steps("vllm", blackwell, 64)) == (1, 1)
    assert poll_steps("sglang", cdna, 4) == 4
    caches = [with_cache(Quantization(), *pair).kv_cache for pair in (("vllm", hopper), ("vllm", blackwell))]
    assert caches == ["bf16", "fp8"]
    trt = rows({"framework": "TensorRT-LLM", "isl_nominal": 8192, "concurrency": 100})
    assert policy_for(setup_of(trt.iloc[0], context()), trt.iloc[0]).max_batched_tokens == (8292 + 127) // 64 * 64


def test_kv_memory_is_what_weights_and_activations_leave() -> None:
    frame = rows({})
    setup = setup_of(frame.iloc[0], context())
    left = kv_memory_bytes(setup)
    # 70 GB of fp8 weights over four ranks, 90 % of an H100; embeddings and head stay in bf16.
    assert left == pytest.approx(setup.device.hbm_bytes * 0.9 - 70.6e9 / 4, rel=0.05)
    pages = memory_for(server(setup, frame), policy_for(setup, frame.iloc[0]), 640)
    assert pages.capacity * 16 == pytest.approx(left / (163_840 / 4), rel=0.01)  # KV in fp8


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured tables lie beside the repository, and are not here")
def test_a_dense_model_on_hopper_is_near_its_measurement(tmp_path: Path) -> None:
    frame = read_table(DATA, "serving_closed_loop")
    chosen = frame.query("gpu == 'H100' and framework == 'vLLM' and model_family == 'Llama-3.1-70B'")
    assert len(chosen) == 30
    chosen.to_csv(tmp_path / "serving_closed_loop.csv", index=False)
    measured, answer = predict_table("serving_closed_loop", tmp_path)
    tpot = (answer.predicted_mean_tpot_s / measured.mean_tpot_s - 1).abs().median()
    ttft = (answer.predicted_mean_ttft_s / measured.mean_ttft_s - 1).abs().median()
    assert tpot < 0.12
    assert ttft < 0.25


def test_the_host_slows_short_prompt_steps_and_no_captured_decodes() -> None:
    frame = rows({})
    found = server(setup_of(frame.iloc[0], context()), frame)
    slow = with_launch(found, 300e-6)
    assert slow.table.step_time_s(64, 0) > 3 * with_launch(found, 6e-6).table.step_time_s(64, 0)
    assert slow.table.step_time_s(0, 0, 4, 4000) == found.table.step_time_s(0, 0, 4, 4000)


def test_the_fit_finds_the_host_time_that_made_the_rows() -> None:
    frame = rows({"isl_nominal": 300}, {"isl_nominal": 150, "concurrency": 2, "num_prompts": 20})
    found = with_launch(server(setup_of(frame.iloc[0], context()), frame), 100e-6)
    made = frame.assign(median_ttft_s=[replay(found, row)["median_ttft_s"] for _, row in frame.iterrows()])
    tried = errors(made.assign(half=0, model_family="x", group_id="x"), context())
    by_launch = tried.error.abs().groupby(tried.launch_us).max()
    assert by_launch.idxmin() == 100.0
    assert by_launch.min() < 1e-9 < 0.05 < by_launch.drop(100.0).min()


def test_a_dynamo_image_is_not_an_engine_version() -> None:
    row = rows({"framework": "TensorRT-LLM", "framework_version": "x/ai-dynamo/tensorrtllm-runtime:0.8.1"}).iloc[0]
    assert engine_profile(row).until == ()


def test_the_predictor_sees_no_outcome() -> None:
    assert set(OUTCOMES) <= set(ALL_OUTCOMES["serving_closed_loop"])


DEEPSEEK = {"model": "deepseek-ai/DeepSeek-R1", "gpu": "B200", "tp": 8, "gpus": 8}


def test_lengths_that_are_not_stated_vary_as_much_as_the_public_ones() -> None:
    stated, public, other = rows(
        {"isl_nominal": 700, "range_ratio": 0.5}, {"isl_nominal": 8192, "osl_nominal": 1024, "range_ratio": None},
        {"isl_nominal": 900, "osl_nominal": 450, "range_ratio": None},
    ).itertuples()  # fmt: skip
    assert lengths(stated) == (700, 128, 0.5)
    assert lengths(public) == (8192, 1024, 0.8)
    assert lengths(other) == (1000, 500, 0.8)  # 900 and 450 on average
    frame = rows({"isl_nominal": 2000, "range_ratio": None, "num_prompts": None, "concurrency": 8, "protocol": "some"})
    staggered = predict(frame, context()).predicted_mean_ttft_s.iloc[0]
    in_step = predict(frame.assign(range_ratio=1.0), context()).predicted_mean_ttft_s.iloc[0]
    assert staggered < 0.75 * in_step


def trt(**changes: object) -> pd.Series:
    return rows(
        DEEPSEEK | {"framework": "TensorRT-LLM", "isl_nominal": 1024, "osl_nominal": 1024, "concurrency": 64} | changes
    ).iloc[0]


def test_tensorrt_llm_steps_hold_what_the_scripts_of_their_time_allow() -> None:
    policies = {
        name: policy_for(setup_of(row, context()), row)
        for name, row in {
            "old": trt(framework_version="release:1.1.0rc2.post2"), "new": trt(framework_version="release:1.2.0rc6"),
            "dated": trt(date="2025-12-03"), "later": trt(date="2026-02-03"),
            "foreign": trt(date="2025-12-03", protocol="some gap analysis"),
        }.items()
    }  # fmt: skip
    assert {name: policy.max_batched_tokens for name, policy in policies.items()} == {
        "old": 1152, "new": 8192, "dated": 1152, "later": 8192, "foreign": 8192,
    }  # fmt: skip
    assert [policies[name].wait_steps for name in ("old", "new", "foreign")] == [0, 40, 0]
    assert [policies[name].together_steps for name in ("new", "foreign")] == [60, 0]
    llama = {"model": "meta-llama/Llama-3.1-70B", "tp": 4, "gpus": 4, "date": "2025-10-29"}
    row = trt(**llama)
    policy = policy_for(setup_of(row, context()), row)
    assert (policy.max_batched_tokens, policy.wait_share, policy.wait_steps) == (2248, 0.9, 20)


def test_drafting_servers_take_what_the_scripts_set_and_answer_faster() -> None:
    frame = rows(
        *(DEEPSEEK | {"framework": engine, "spec_decoding": drafts}
          for engine in ("TensorRT-LLM", "SGLang") for drafts in ("mtp", "none"))
    )  # fmt: skip
    answer = predict_speculative(frame, context())
    assert (answer.not_covered_because == "").all()
    assert list(answer.index) == list(frame.index)
    tpot = answer.predicted_mean_tpot_s.to_numpy()
    assert 1.1 < tpot[1] / tpot[0] < 2.438
    assert 1.1 < tpot[3] / tpot[2] < 2.131
    policies = [policy_for(setup_of(row, context()), row) for _, row in frame.iterrows()]
    assert [policy.draft_tokens for policy in policies] == [3, 0, 2, 0]
    assert [round(policy.tokens_per_step, 3) for policy in policies] == [2.438, 1.0, 2.131, 1.0]
    ranks = pd.Series(frame.iloc[0].to_dict() | {"tp": 1, "dp_attention": 8, "ep": 8})
    assert policy_for(setup_of(ranks, context()), ranks).draft_tokens == 1
