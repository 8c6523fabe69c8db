"""From the input columns of a serving table to what is simulated: model as stored, layout, links, engine, KV memory."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import pandas as pd

from simulator.cost.engine_profile import EngineProfile, find_engine, version_of
from simulator.cost.table import Setup, TableOptions, build_table
from simulator.engine.expert_exchange import with_exchange
from simulator.engine.front_end import FrontEnd
from simulator.engine.server import PROMPT_OP_S, Server, front_end, kv_memory_bytes, prompt_skew
from simulator.engine.server import ROUTING_SKEW as ROUTING_SKEW
from simulator.errors import DataError
from simulator.hardware.catalogue import find_device
from simulator.hardware.device import Device
from simulator.model.architecture import Architecture, Quantization
from simulator.model.quantization import canonical_dtype, override, with_precision
from simulator.parallel.layout import Layout
from simulator.serving.policy import Policy, find_policy
from simulator.topology.group import GroupLinks
from simulator.validation.context import Context
from simulator.validation.launch_settings import (
    MEMORY_SHARE,
    SGLANG_CHUNK,
    SGLANG_CHUNK_CDNA,
    SGLANG_MTP_CHUNK,
    SGLANG_POLL,
    SGLANG_POLL_CDNA,
    TRT_TOGETHER,
    before_floor,
    documented,
    lengths,
    speculates,
    speculation_of,
    trt_tokens,
    trt_wait,
)
from simulator.validation.links import group_links, text

POLICY_OF = {"vllm": "vllm", "sglang": "sglang", "tensorrtllm": "tensorrt-llm"}
OLD_VERSION = {"tensorrt-llm": "1.1"}
"""The version of a run that names none and is older than `launch_settings.TRT_FLOOR`."""
FP8_CACHE = {"tensorrt-llm": ("hopper", "blackwell"), "vllm": ("blackwell",), "sglang": ("blackwell", "cdna3")}
"""Engine -> GPU generations on which its KV cache is stored in fp8 (source: see `launch_settings`)."""
FP8_CACHE_LLAMA = ("vllm", "llama")
"""Engine and family of which it is so everywhere (70b_*.sh: kv-cache-dtype: fp8)."""
POLLED = ("deepseek", "qwen3")
"""Families whose SGLang scripts set a receive interval (dsr1_*.sh, qwen3.5_*.sh); glm5_fp8_b200.sh sets none."""
BLOCK_FP8 = ("qwen3_moe", "qwen3_5", "glm_moe_dsa")
"""Families that are served from their makers' fp8 checkpoints, which scale 128 x 128 blocks
(quantization_config.weight_block_size of Qwen/Qwen3-235B-A22B-FP8, Qwen/Qwen3.5-397B-A17B-FP8 and zai-org/GLM-5-FP8,
2025-07 to 2026-02). A dense bf16 repository is quantised by the engine, a scale a tensor (TensorRT-LLM's
examples/quantization, --qformat fp8)."""
PROMPTS_TOGETHER = (1, 4, 16, 64)
"""Numbers of prompts in one step that are tabulated."""


def policy_name(framework: str) -> str:
    """The scheduler's name; "" for a framework that is not one of the three."""
    letters = "".join(c for c in framework.lower() if c.isalpha())
    return POLICY_OF.get(letters, "")


def stored(architecture: Architecture, precision: str) -> Architecture:
    """The model in the precision a row states; as its checkpoint stores it where the row states none.

    A checkpoint that already is of that precision stays as it is (block-scaled fp8, MXFP4 experts). NVFP4 checkpoints
    of latent-attention models keep attention in bf16 (nvidia/DeepSeek-R1-0528-FP4, hf_quant_config.json, 2025-06).
    """
    if not precision:
        return architecture
    own = architecture.quantization
    name = canonical_dtype(precision)
    family = name.removeprefix("nv").removeprefix("mx")[:3]
    if any(family in dtype for dtype in (own.weights, own.experts)):
        return architecture
    if name == "fp8" and architecture.family.startswith(BLOCK_FP8):
        name = "fp8_block"
    quantization = with_precision(own, name)
    if name == "int4":
        quantization = override(own, experts="int4")
    if name == "nvfp4" and architecture.distinct_layers[-1].attention.__class__.__name__ == "LatentAttention":
        quantization = override(quantization, attention="bf16")
    return replace(architecture, quantization=quantization)


def with_cache(quantization: Quantization, engine: str, device: Device) -> Quantization:
    """The KV type that the public runs choose."""
    fp8 = device.generation in FP8_CACHE[engine]
    return override(quantization, kv_cache="fp8") if fp8 else quantization


def poll_steps(engine: str, device: Device, clients: int, family: str = POLLED[0]) -> int:
    """Decode steps between looks for new requests, as the public runs set them; the engine's default for others."""
    if engine != "sglang" or not family.startswith(POLLED):
        return 1
    if device.generation == "blackwell":
        few, many, limit = SGLANG_POLL
        return many if clients >= limit else few
    return SGLANG_POLL_CDNA if device.generation.startswith("cdna") else 1


def whole_number(row: Any, column: str) -> int:
    """A cell that must be stated. Raises DataError where it is not."""
    value = getattr(row, column)
    if pd.isna(value):
        raise DataError(where=column, given="", rule="must be stated")
    return int(value)


def layout_of(row: Any) -> Layout:
    """The layout of a row; ep and moe_tp as recorded. Raises DataError for an axis that is not stated."""
    tp, pp, dp, ep = (whole_number(row, axis) for axis in ("tp", "pp", "dp_attention", "ep"))
    return Layout(tp=tp, pp=pp, dp_attention=dp, ep=ep)


def links_of(gpu: str, gpus: int, nodes: int, layout: Layout) -> Callable[[tuple[str, ...]], GroupLinks]:
    """Groups over mesh axes; each stands in as few hosts as it fits."""
    per_node = max(1, gpus // nodes)

    def links(axes: tuple[str, ...]) -> GroupLinks:
        return group_links(gpu, layout.size(axes), per_node)

    return links


def batched_tokens(engine: str, setup: Setup, row: Any, default: int) -> int:
    """Tokens of one step as the public runs set them."""
    if engine == "sglang":
        if setup.device.generation.startswith("cdna"):
            return SGLANG_CHUNK_CDNA
        return SGLANG_MTP_CHUNK if speculates(row) else SGLANG_CHUNK.get(text(row.precision), default)
    if engine == "tensorrt-llm":
        return trt_tokens(row, setup.architecture.family)
    return default


def engine_profile(row: Any) -> EngineProfile:
    """The engine at the row's version; where none is named, at that of its date. A Dynamo image's version is Dynamo's
    own, so the newest engine is taken."""
    version = text(row.framework_version)
    if "dynamo" in version:
        version = ""
    elif not version_of(version) and before_floor(row):
        version = OLD_VERSION.get(policy_name(text(row.framework)), "")
    return find_engine(text(row.framework), version)


def setup_of(row: Any, context: Context) -> Setup:
    """What a row's inputs describe. Raises a ShardsimError for what cannot be described."""
    engine = policy_name(text(row.framework))
    if not engine:
        raise DataError(where="framework", given=text(row.framework), rule="has no scheduler here")
    device = find_device(text(row.gpu))
    model = stored(context.model(text(row.model)), text(row.precision))
    model = replace(model, quantization=with_cache(model.quantization, engine, device))
    if (engine, model.family) == FP8_CACHE_LLAMA and documented(row):
        model = replace(model, quantization=override(model.quantization, kv_cache="fp8"))
    layout = layout_of(row)
    profile = replace(engine_profile(row), launch_s=PROMPT_OP_S[engine])
    if documented(row) and model.family != "llama":
        profile = replace(profile, memory_share=MEMORY_SHARE.get(engine, profile.memory_share))
    links = links_of(text(row.gpu), int(row.gpus), int(row.nodes), layout)
    return with_exchange(Setup(model, layout, device, links, profile))


def same_server(setup: Setup) -> tuple[Hashable, ...]:
    """Equal for rows that one table serves: copies of a model under several names, and versions of one profile."""
    model = replace(setup.architecture, name="", source="", notes=())
    return model, setup.layout, setup.device.name, setup.links(("tp",)), setup.engine.label, setup.engine.memory_share


def server(setup: Setup, rows: pd.DataFrame) -> Server:
    """The server that all `rows` ask (which all draft tokens, or none does), its table as large as they need.

    Raises DoesNotFitError.
    """
    memory = kv_memory_bytes(setup)
    sizes = [lengths(row)[:2] for row in rows.itertuples()]
    clients, longest = int(rows.concurrency.max()), max(given + asked for given, asked in sizes)
    most = max(policy_for(setup, row).max_batched_tokens for row in rows.itertuples())
    tokens = min(most, max(given for given, _ in sizes) * clients) + clients
    drafts = speculation_of(rows.iloc[0], policy_name(text(rows.framework.iloc[0])), setup.architecture)
    options = TableOptions(
        tokens, clients, longest, prefill_counts=PROMPTS_TOGETHER, expert_skews=(ROUTING_SKEW,), speculation=drafts,
        prompt_skew=prompt_skew(setup.layout.ep)
    )  # fmt: skip
    return Server(setup, build_table(setup, options), memory)


def policy_for(setup: Setup, row: Any) -> Policy:
    """The engine's policy as the public runs set it for a row."""
    engine = policy_name(text(row.framework))
    own = find_policy(engine)
    tokens = batched_tokens(engine, setup, row, own.max_batched_tokens)
    polls = poll_steps(engine, setup.device, int(row.concurrency), setup.architecture.family)
    policy = replace(own, max_batched_tokens=tokens, poll_steps=polls)
    if engine == "tensorrt-llm":
        share, steps = trt_wait(row, setup.architecture.family)
        together = TRT_TOGETHER if documented(row) else 0
        policy = replace(policy, wait_share=share, wait_steps=steps, together_steps=together)
    drafts = speculation_of(row, engine, setup.architecture)
    if drafts is None:
        return policy
    return replace(policy, draft_tokens=drafts.tokens, tokens_per_step=drafts.tokens_per_step)


def front_of(setup: Setup, row: Any) -> FrontEnd:
    """What stands before a row's scheduler; the first prompts of a measured run find it cold."""
    return front_end(policy_name(text(row.framework)), ahead=setup.engine.overlaps_host, cold=True)
