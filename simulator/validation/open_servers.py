"""Which server an open-loop row describes; for MLPerf rows, which servers a planner would consider."""

from dataclasses import replace
from typing import Any

import pandas as pd

from simulator.cost.engine_profile import version_of
from simulator.engine.server import kv_memory_bytes
from simulator.errors import DataError, DoesNotFitError
from simulator.hardware.catalogue import find_device
from simulator.hardware.device import Device
from simulator.model.architecture import Architecture, LatentAttention
from simulator.parallel.layout import Layout
from simulator.validation.context import Context
from simulator.validation.described import Described, engine_of, setup_from
from simulator.validation.links import text

# TensorRT-LLM release that was current at an MLPerf round (rounds close four to six weeks before they are published:
# v4.0 2024-03, v4.1 2024-08, v5.0 2025-04, v5.1 2025-09; github.com/NVIDIA/TensorRT-LLM releases).
ROUND_RELEASE = {"v4.0": "0.8", "v4.1": "0.11", "v5.0": "0.17", "v5.1": "1.0"}
MEMORY_SHARE = "gpu_mem_util"
OTHER_VENDORS = ("cdna", "xe", "davinci")
"""Generations of GPUs that are not NVIDIA's."""
BENCHMARKS = {
    "llama2-70b": "meta-llama/Llama-2-70b-hf", "mixtral-8x7b": "mistralai/Mixtral-8x7B-v0.1",
    "llama3.1-405b": "meta-llama/Meta-Llama-3.1-405B", "llama3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "deepseek-r1": "deepseek-ai/DeepSeek-R1",
}  # fmt: skip
"""MLPerf's names of models, by theirs."""
OTHER_NAMES = {"Llama-3-8B": "meta-llama/Meta-Llama-3.1-8B", "Llama-4-Scout-17B-16E FP8": "Llama-4-Scout-17B-16E FP8"}
ROOM_FOR_KV = 0.2
"""A planner leaves at least this part of a GPU's memory to the KV cache, where any layout does."""
MOST_LAYOUTS = 2
"""How many of the layouts that hold a model are tried, from the smallest."""


def number(value: Any, default: int) -> int:
    """A cell as a whole number; `default` where it is empty."""
    return default if value is None or pd.isna(value) else int(value)


def gpu_of(name: str) -> str:
    """The GPU of a system; of several kinds the first named, which is the most numerous."""
    return name.split(",")[0].split(" (x")[0].strip()


def gpus_of(row: Any) -> int:
    """GPUs of a system; a dual card holds two."""
    return number(row.gpus, 0) * (2 if "dual" in text(row.gpu).lower() else 1)


def engine_named(row: Any) -> tuple[str, str]:
    """(engine, version): as named, else what its vendor's submissions run (TensorRT-LLM on NVIDIA's, else vLLM)."""
    framework = text(row.framework)
    name, version = engine_of(framework)
    if name:
        return name, version
    if find_device(gpu_of(text(row.gpu))).generation.startswith(OTHER_VENDORS):
        return "vllm", ""
    return "tensorrt-llm", ROUND_RELEASE.get(text(row.release), "")


def max_tokens_of(row: Any) -> int:
    """Tokens of one step; of several stated ones (context and generation) the largest."""
    cell = text(row.max_num_tokens)
    return max((int(float(part)) for part in cell.split(";") if part.strip()), default=0)


def memory_share_of(row: Any) -> float:
    """`gpu_mem_util x` of a workload's words, where it is a share."""
    _, found, tail = text(row.workload).partition(MEMORY_SHARE + " ")
    value = float(tail.split(",")[0].split(")")[0]) if found else 0.0
    return value if 0.0 < value <= 1.0 else 0.0


# kubernetes-sigs/inference-perf, demos/kubecon-na-2025 (2025-10): config.yaml has num_workers 44 with
# worker_max_concurrency 10. Its time per output token is the answer's time over the lines of the event stream, an empty
# one after each token (the rows' own e2e, first token and time per token agree on 129 lines for 64 tokens). One pod
# serves HTTP and engine: its steps are longer by 0.09 ms a sequence, and 128 sequences run at saturation.
INFERENCE_PERF = "inference-perf"
CLIENTS = 44 * 10
EVENTS_PER_TOKEN = 2
POD_SEQUENCE_S = 90e-6
"""Fitted on the 7 stages of one of its servers (2026-11-24); docs/serving-tables.md has the errors on the others."""
POD_SEQUENCES = 128
POD_FRONT_S = 0.024
FRONT_S = 0.012
"""From an HTTP client to vLLM's engine and back with the first token, tokeniser included; in a pod of few cores twice
that. Fitted on the same stages, and on the short prompts of one llm-d server (2026-11-24)."""
SUITE_VERSION = {"llm-d": "0.9"}
"""vLLM of suites that do not name it: llm-d-benchmark's runs are of 2025-05 to 2025-09 (vLLM 0.8.5 to 0.10)."""


def in_flight_of(row: Any) -> int:
    """Requests that the client keeps open at most; 0: not stated."""
    return CLIENTS if text(row.suite) == INFERENCE_PERF else number(row.concurrency, 0)


def front_of(row: Any) -> float:
    """Seconds that a first token spends outside the engine."""
    return POD_FRONT_S if text(row.suite) == INFERENCE_PERF else FRONT_S


def events_of(row: Any) -> int:
    """Events that the client counts a token."""
    return EVENTS_PER_TOKEN if text(row.suite) == INFERENCE_PERF else 1


def layout_stated(row: Any) -> Layout:
    """The layout of one replica. `attention_dp` true: every rank of the recorded tp attends for itself."""
    tp, pp, ep = number(row.tp, 1), number(row.pp, 1), number(row.ep, 1)
    if text(row.attention_dp).lower() == "true":
        return Layout(tp=1, pp=pp, dp_attention=tp, ep=max(ep, 1))
    return Layout(tp=tp, pp=pp, ep=ep)


def stated_server(row: Any) -> Described:
    """The server of a row that states its layout."""
    framework, version = engine_named(row)
    if not version:
        version = next((v for suite, v in SUITE_VERSION.items() if text(row.suite).startswith(suite)), "")
    model = OTHER_NAMES.get(text(row.model), text(row.model))
    pod = text(row.suite) == INFERENCE_PERF
    return Described(
        gpu_of(text(row.gpu)), framework, version, model, text(row.precision), layout_stated(row),
        cache=text(row.kv_dtype), max_sequences=number(row.batch_size, POD_SEQUENCES if pod else 0),
        max_batched_tokens=max_tokens_of(row), memory_share=memory_share_of(row),
        eager="eager" in text(row.framework).lower(), host_sequence_s=POD_SEQUENCE_S if pod else 0.0,
    )  # fmt: skip


# ---- MLPerf ---------------------------------------------------------------------------------------------------


def native_precision(device: Device) -> str:
    """The narrowest floating-point type of the tensor cores, which is what submitters quantise to (closed division,
    v4.0 to v5.1: FP8 on Hopper, Ada and CDNA3, FP4 on Blackwell and CDNA4); weights in int4 where there is none."""
    for dtype in ("fp4", "fp8"):
        if dtype in device.peak_flops_per_s:
            return dtype
    return "int4"


def mlperf_servers(row: Any, context: Context) -> list[Described]:
    """The servers that could run a submission, smallest first: stated, or every power of two of GPUs that holds the
    weights and leaves room for KV."""
    gpu = gpu_of(text(row.gpu))
    device, name = find_device(gpu), text(row.model).lower()
    for suffix in ("-99.9", "-99", "-interactive"):
        name = name.removesuffix(suffix)
    framework, version = engine_named(row)
    precision = text(row.precision) or native_precision(device)
    cache = text(row.kv_dtype) or ("fp8" if "fp8" in device.peak_flops_per_s else "")
    tokens = max_tokens_of(row)
    told = Described(
        device.name, framework, _short(version), BENCHMARKS.get(name, name), precision, Layout(), cache=cache,
        max_sequences=number(row.batch_size, 0), max_batched_tokens=tokens, chunked=True,
    )  # fmt: skip
    if pd.notna(row.tp):
        return [replace(told, layout=layout_stated(row))]
    model = context.model(told.model)
    largest = gpus_of(row) // number(row.nodes, 1)
    sizes = (size for size in (1, 2, 4, 8) if size <= largest and gpus_of(row) % size == 0)
    rooms = [(_room(each, context), each) for each in (replace(told, layout=_layout(model, size)) for size in sizes)]
    held = [each for room, each in rooms if room >= ROOM_FOR_KV]
    if not held:
        held = [each for room, each in rooms[-1:] if room > 0.0]
    if not held:
        raise DataError(where="gpus", given=str(gpus_of(row)), rule=f"do not hold {told.model} in {precision}")
    return held[:MOST_LAYOUTS]


def _short(version: str) -> str:
    """Major and minor number, so that builds of one version are one engine."""
    return ".".join(map(str, version_of(version)[:2]))


def _layout(model: Architecture, gpus: int) -> Layout:
    """Latent attention has one KV head, which every rank of tp would hold: its ranks attend for themselves."""
    if isinstance(model.distinct_layers[-1].attention, LatentAttention):
        return Layout(dp_attention=gpus, ep=gpus)
    return Layout(tp=gpus)


def _room(told: Described, context: Context) -> float:
    """Part of a GPU's memory that weights and activations leave to KV."""
    setup = setup_from(told, context)
    try:
        return kv_memory_bytes(setup) / setup.device.hbm_bytes
    except DoesNotFitError:
        return 0.0
