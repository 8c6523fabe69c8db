"""How the public runs start their servers, where it is not the engine's default.

Source: the launch scripts of github.com/SemiAnalysisAI/InferenceX, benchmarks/*.sh (2025-10 to 2026-01) and
benchmarks/single_node/*.sh (2026-01 to 2026-05), by the names given below.
"""

from typing import Any

import pandas as pd

from simulator.cost.engine_profile import version_of
from simulator.cost.table import Speculation
from simulator.model.architecture import Architecture
from simulator.validation.links import text

DOCUMENTED = "InferenceX closed loop"
"""How the protocol of a row begins whose launch script is one of these."""
TRT_GPT_OSS_TOKENS = 20_000
"""--max_num_tokens of gptoss_fp4_*_trt.sh."""
TRT_LEAST_TOKENS = 8_192
"""The least --max_num_tokens of dsr1_*_trt.sh since `TRT_FLOOR`; TensorRT-LLM's default for everything else."""
TRT_FLOOR = ((1, 2), "2026-01-15")
"""Version and date from which dsr1_*_trt.sh sets that least; before, a step held hardly more than one prompt."""
PROMPT_SLACK = 127
"""What the scripts add to prompt and decodes before rounding down to 64."""
CONTEXT_SLACK = 200
"""What the longest context is beyond prompt and answer; 70b_*_trt_slurm.sh take it as --max_num_tokens."""
TRT_WAIT_LLAMA = (0.9, 20)
"""batch_wait_max_tokens_ratio and batch_wait_timeout_iters of 70b_*_trt_slurm.sh for 1k/1k on fewer than 8 GPUs."""
TRT_WAIT_FP8 = (0.8, 40, 64)
"""The same of dsr1_fp8_b200_trt.sh for 1k/1k, from so many clients, since `TRT_FLOOR`."""
TRT_TOGETHER = 60
"""attention_dp_config of *_trt.sh: enable_balance, timeout_iters."""
MTP_TOKENS = {"tensorrt-llm": 3, "sglang": 2, "vllm": 1}
"""Drafted tokens of *_mtp.sh: num_nextn_predict_layers; --speculative-num-steps; num_speculative_tokens."""
TRT_MTP_TOGETHER = 1
"""The same of *_trt_mtp.sh with data-parallel attention."""
MTP_IMAGES = ("tensorrt-llm/release:1.2.0rc6.post3",)
"""Images of dsr1-*-b200-trt-mtp alone (.github/configs/nvidia-master.yaml, commit 0004cf5); one source of rows lost
their spec_decoding."""
MTP_ACCEPTANCE = 0.675
"""Chance that a drafted token is accepted if those before it were: three drafted tokens then bring 2.44 a step, which
SGLang reports for DeepSeek-V3 (LMSYS, "Accelerating SGLang with Multiple Token Prediction", 2025-07). DeepSeek's own
85 to 90 % (arXiv:2412.19437, section 5.4.3) are of the first drafted token of text. One number for all runs."""
MTP_LAYERS = 3.0
"""Time of one drafted token in layers of the target: the prediction layer, the whole vocabulary, and sampling."""
SGLANG_CHUNK = {"fp8": 32_768, "fp4": 16_384}
"""SGLang's --chunked-prefill-size by the checkpoint's precision."""
SGLANG_MTP_CHUNK = 16_384
SGLANG_CHUNK_CDNA = 131_072
SGLANG_POLL = (10, 30, 16)
"""--scheduler-recv-interval on Blackwell, decode steps between looks for requests: below and from so many clients."""
SGLANG_POLL_CDNA = 4
"""--num-continuous-decode-steps on MI300X and MI325X."""

PUBLIC_LENGTHS = ((1024, 1024), (1024, 8192), (8192, 1024))
PUBLIC_RATIO = 0.8
"""Lengths and --random-range-ratio of the InferenceX runs (its benchmark_lib.sh, 2026-05)."""

MEMORY_SHARE = {"sglang": 0.82, "tensorrt-llm": 0.8}
"""--mem-fraction-static of dsr1_fp8_*.sh and qwen3.5_*.sh, free_gpu_memory_fraction of dsr1_*_trt.sh; fp4 and others
lie between 0.8 and 0.85. 70b_*_trt_slurm.sh set none."""


def documented(row: Any) -> bool:
    """Whether the row's protocol is that of the scripts."""
    return text(getattr(row, "protocol", "")).startswith(DOCUMENTED)


def lengths(row: Any) -> tuple[int, int, float]:
    """(longest prompt, longest answer, shortest over longest) of a row's requests.

    Where no range is stated: the public benchmark's at its own lengths, and the same width about the stated lengths
    elsewhere, since clients that ask for the very same lengths would stay in step for ever.
    """
    given, asked = int(row.isl_nominal), int(row.osl_nominal)
    if pd.notna(row.range_ratio):
        return given, asked, float(row.range_ratio)
    if (given, asked) in PUBLIC_LENGTHS:
        return given, asked, PUBLIC_RATIO
    middle = 0.5 * (1.0 + PUBLIC_RATIO)
    return max(1, round(given / middle)), max(1, round(asked / middle)), PUBLIC_RATIO


def speculates(row: Any) -> bool:
    """Whether the row's server drafts tokens: it says so, or runs an image that only drafting entries name."""
    if text(getattr(row, "spec_decoding", "")) not in ("", "none"):
        return True
    return documented(row) and text(row.framework_version).endswith(MTP_IMAGES)


def speculation_of(row: Any, engine: str, model: Architecture) -> Speculation | None:
    """Multi-token prediction as the scripts run it: one layer drafts, with the vocabulary's head."""
    if not speculates(row):
        return None
    alone = engine != "tensorrt-llm" or int(row.dp_attention) == 1
    tokens = MTP_TOKENS[engine] if alone else TRT_MTP_TOGETHER
    return Speculation(tokens, MTP_ACCEPTANCE, MTP_LAYERS / len(model.layers))


def before_floor(row: Any) -> bool:
    """Whether a TensorRT-LLM run is older than `TRT_FLOOR`, by its version, else by its date; unknown: no."""
    version = version_of(text(row.framework_version)) if text(row.framework_version) else ()
    if version:
        return version < TRT_FLOOR[0]
    date = text(getattr(row, "date", ""))
    return date.startswith("20") and date < TRT_FLOOR[1]


def trt_tokens(row: Any, family: str) -> int:
    """TensorRT-LLM's --max_num_tokens."""
    given, clients = lengths(row)[0], int(row.concurrency)
    if family == "gpt_oss":
        return TRT_GPT_OSS_TOKENS
    if speculates(row):
        alone = int(row.dp_attention) == 1
        drafted = MTP_TOKENS["tensorrt-llm"] if alone else TRT_MTP_TOGETHER
        sequences = max(1, clients // int(row.dp_attention))
        return ((1 + drafted) * sequences + given + PROMPT_SLACK) // 64 * 64
    if documented(row) and before_floor(row) and family == "llama":
        return given + int(row.osl_nominal) + CONTEXT_SLACK
    needed = (clients + given + PROMPT_SLACK) // 64 * 64
    return needed if documented(row) and before_floor(row) else max(TRT_LEAST_TOKENS, needed)


def trt_wait(row: Any, family: str) -> tuple[float, int]:
    """Share of max_num_tokens and steps that TensorRT-LLM's prompts wait for more of them; (0, 0): they do not."""
    short = int(row.isl_nominal) == 1024 and int(row.osl_nominal) == 1024
    if not documented(row) or not short or speculates(row) or int(row.dp_attention) > 1:
        return 0.0, 0
    if family == "llama":
        return TRT_WAIT_LLAMA if int(row.tp) < 8 else (0.0, 0)
    share, steps, clients = TRT_WAIT_FP8
    late = text(row.precision) == "fp8" and text(row.gpu).startswith("B") and not before_floor(row)
    return (share, steps) if late and family != "gpt_oss" and int(row.concurrency) >= clients else (0.0, 0)
