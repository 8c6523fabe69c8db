"""A server told in a row's words, for tables that say more (or less) than the closed-loop runs do.

`serving_setup` knows how the public closed-loop runs start their servers; here nothing is assumed of a launch script:
the engine runs with its defaults but for what the row states.
"""

import re
from dataclasses import dataclass, replace

from simulator.cost.engine_profile import find_engine, version_of
from simulator.cost.table import Setup, TableOptions, build_table
from simulator.engine.expert_exchange import with_exchange
from simulator.engine.server import PROMPT_OP_S, ROUTING_SKEW, Server, kv_memory_bytes, memory_for, prompt_skew
from simulator.errors import DataError
from simulator.hardware.catalogue import find_device
from simulator.hardware.device import Device
from simulator.model.quantization import override
from simulator.parallel.layout import Layout
from simulator.serving.batcher import Batcher
from simulator.serving.blocks import KvBlocks
from simulator.serving.policy import Policy, find_policy
from simulator.serving.prefix import PrefixCache
from simulator.validation.context import Context
from simulator.validation.serving_setup import PROMPTS_TOGETHER, links_of, policy_name, stored

SMALLER_VLLM = (2048, 256)
"""vLLM's default max_num_batched_tokens and max_num_seqs on GPUs below 70 GiB and on the A100
(vllm/engine/arg_utils.py, _set_default_args, v0.8 to v0.11, 2025-03 to 2025-10)."""

ASYNCHRONOUS = (0, 14)
"""First vLLM that prepares a step while the last one runs (asynchronous scheduling by default, release notes of
v0.14.0, 2026-01); before it, host and device take turns."""

_ENGINE = re.compile(r"(vllm|sglang|tensorrt[- ]?llm|trt[- ]?llm)", re.IGNORECASE)
_VERSION = re.compile(r"\bv?-?(\d+\.\d+(?:\.\d+)?\S*)")


@dataclass(frozen=True, slots=True)
class Described:
    """What a row says of one server. Zeros and empty texts: not stated, so the engine's default."""

    gpu: str
    framework: str
    version: str
    model: str
    precision: str
    layout: Layout
    nodes: int = 1
    cache: str = ""
    """Storage type of the KV cache."""
    max_sequences: int = 0
    max_batched_tokens: int = 0
    memory_share: float = 0.0
    eager: bool = False
    """No CUDA graphs are captured: every step pays the host for each op, as prompt steps of many tokens do."""
    host_sequence_s: float = 0.0
    """Host time of one sequence of a step, where the host is known to be slower than the engine's profile says."""
    chunked: bool = False
    """Prompts are cut over steps even where the engine's default is not to."""


def engine_of(text: str) -> tuple[str, str]:
    """(engine, version) that a framework's text names; ("", "") where none of the three is named.

    >>> engine_of("vLLM v0.11.0"), engine_of("llm-d (vLLM)"), engine_of("ROCm 6.4, vllm-0.9.0.2.dev1+x")
    (('vllm', '0.11.0'), ('vllm', ''), ('vllm', '0.9.0.2.dev1+x'))
    """
    found = _ENGINE.search(text)
    if not found:
        return "", ""
    version = _VERSION.match(text[found.end() :].lstrip(" -"))
    return policy_name(found[1]) or "tensorrt-llm", version[1] if version else ""


def setup_from(told: Described, context: Context) -> Setup:
    """The described deployment. Raises a ShardsimError for what cannot be described."""
    if not told.framework:
        raise DataError(where="framework", given="", rule="names no engine that has a scheduler here")
    device = find_device(told.gpu)
    model = stored(context.model(told.model), told.precision)
    if told.cache:
        model = replace(model, quantization=override(model.quantization, kv_cache=told.cache))
    engine = find_engine(told.framework, told.version)
    if told.framework == "vllm" and () < version_of(told.version) < ASYNCHRONOUS:
        engine = replace(engine, overlaps_host=False)
    if told.eager:
        engine = replace(engine, graph_sizes=(), launch_s=PROMPT_OP_S[told.framework])
    if told.host_sequence_s:
        engine = replace(engine, host_sequence_s=told.host_sequence_s)
    if told.max_batched_tokens:
        engine = replace(engine, max_batched_tokens=told.max_batched_tokens)
    if told.memory_share:
        engine = replace(engine, memory_share=told.memory_share)
    gpus = told.layout.ranks
    return with_exchange(Setup(model, told.layout, device, links_of(told.gpu, gpus, told.nodes, told.layout), engine))


def policy_from(told: Described) -> Policy:
    """The engine's scheduler with the limits that are stated."""
    policy = find_policy(told.framework)
    tokens, sequences = policy.max_batched_tokens, policy.max_sequences
    if told.framework == "vllm" and _smaller(find_device(told.gpu)):
        tokens, sequences = SMALLER_VLLM
    return replace(
        policy, max_batched_tokens=told.max_batched_tokens or tokens, max_sequences=told.max_sequences or sequences,
        chunked=policy.chunked or told.chunked,
    )  # fmt: skip


def _smaller(device: Device) -> bool:
    return device.hbm_bytes < 70 * 2**30 or device.name.startswith("A100")


def server_from(setup: Setup, policy: Policy, *, clients: int, longest: int) -> Server:
    """The server, its table large enough for steps of `clients` sequences of up to `longest` tokens."""
    sequences = min(clients, policy.max_sequences)
    tokens = policy.max_batched_tokens + sequences
    options = TableOptions(
        tokens,
        sequences,
        longest,
        prefill_counts=PROMPTS_TOGETHER,
        expert_skews=(ROUTING_SKEW,),
        prompt_skew=prompt_skew(setup.layout.ep),
    )
    return Server(setup, build_table(setup, options), kv_memory_bytes(setup))


def prefix_tokens(policy: Policy) -> int:
    """Tokens of a block that is found again: whole pages, about 64 tokens (engines hash single pages)."""
    return max(1, 64 // policy.block_tokens) * policy.block_tokens


def ranks_of(server: Server, policy: Policy, longest: int, *, prefixes: bool = False) -> list[Batcher]:
    """One scheduler for each data-parallel attention rank; `prefixes`: pages of prompts are kept and found again."""
    found = []
    for _ in range(server.setup.layout.dp_attention):
        memory = memory_for(server, policy, longest)
        if prefixes:
            memory = KvBlocks(memory.capacity, memory.block_tokens, PrefixCache(prefix_tokens(policy)))
        found.append(Batcher(policy, memory))
    return found
