"""A server: one replica's step times and the memory it has for KV pages."""

from dataclasses import dataclass

from simulator.cost.table import Setup, StepTable
from simulator.engine.front_end import FrontEnd
from simulator.errors import DoesNotFitError
from simulator.program.build import build
from simulator.program.memory import activations_bytes, kv_cache_bytes, weights_bytes
from simulator.program.work import Sequence, Work
from simulator.serving.blocks import KvBlocks
from simulator.serving.policy import Policy
from simulator.units import format_bytes

PROMPT_OP_S = {"vllm": 50e-6, "sglang": 100e-6, "tensorrt-llm": 110e-6}
"""Host time of each op of a prompt step, which PyTorch engines run eagerly; a listed op is several kernels and their
Python. Fitted by `validation.fit_serving` on half of the groups (2026-11-24); docs/serving.md has the errors."""
REQUEST_S = 4e-3
"""One request through the HTTP server, the tokeniser's process and the queue to the scheduler; all engines alike.
Fitted with `PROMPT_OP_S` (of 0, 3, 4 and 7 ms)."""
TOKEN_S = 1.5e-6
"""One prompt token through the tokeniser: 2 to 3 MB of text a second on one core (huggingface/tokenizers, README and
bindings/python benchmarks, 2024), four bytes a token."""
COLD_S = {"vllm": 0.2, "sglang": 0.5, "tensorrt-llm": 0.1}
"""What the first prompt step of a measured run takes longer than later ones. Fitted as `PROMPT_OP_S`, after it."""
ROUTING_SKEW = 0.4
"""Zipf exponent of how busy experts are under real routers, whose ranks hold busy ones by chance. Decode times of the
development half grow with the batch as nearly even routing says: exponents of 0, 0.3 and 0.6 err alike (11.3, 11.3 and
11.4 % of pure decode steps, 2026-11-24), and only gpt-oss prefers a larger one. One number for all models."""

PROMPT_ROUTING_SKEW = 1.3
"""The same in steps with prompts: on eight ranks the busiest then has 2.4 times its share. Chosen of 0.4, 1.0, 1.3 and
1.5 on closed loops of prompts of 8,192 tokens with expert parallelism (152 rows of three engines, 2026-11-24): TTFT
errs by 26, 16, 11 and 10 % on half of the groups, by 27, 24, 22 and 22 % on the others, and rows without expert
parallelism do not change. SGLang's report of what balancing brings (1.49 times the prefill rate of EP32, LMSYS
2025-05) says the same of the size. One number for all models."""

BALANCED_EP = 16
"""Expert-parallel ranks from which deployments balance experts by copies and placement (DeepSeek's EPLB, 2025-02;
SGLang's wide EP, LMSYS 2025-05)."""


def prompt_skew(ep: int) -> float:
    """Zipf exponent of expert popularity in steps with prompts, on so many expert-parallel ranks."""
    return PROMPT_ROUTING_SKEW if ep < BALANCED_EP else ROUTING_SKEW


@dataclass(frozen=True, slots=True)
class Server:
    """One server that can be asked to serve."""

    setup: Setup
    table: StepTable
    kv_bytes_per_rank: float
    """Memory of a rank that is left for KV."""


def front_end(engine: str, *, ahead: bool, cold: bool = False) -> FrontEnd:
    """What stands before the scheduler of "vllm", "sglang" or "tensorrt-llm".

    `ahead`: it plans a step while the last one runs. `cold`: the run's first prompts find shapes that are not warm.
    """
    return FrontEnd(REQUEST_S, TOKEN_S, ahead, COLD_S[engine] if cold else 0.0)


def kv_memory_bytes(setup: Setup) -> float:
    """Memory that the engine gives to KV on the fullest rank, beside weights and one step's activations."""
    layout, model, engine = setup.layout, setup.architecture, setup.engine
    step = Work((Sequence(0, min(engine.max_batched_tokens, model.max_position), 0),))
    left = min(
        engine.cache_bytes(
            setup.device.hbm_bytes,
            weights_bytes(model, layout, stage),
            activations_bytes(build(model, layout, stage, (step,))),
        )
        for stage in range(layout.pp)
    )
    if left <= 0.0:
        raise DoesNotFitError(
            where=f"{model.name} on {setup.device.name}",
            given=f"{format_bytes(weights_bytes(model, layout, 0))} of weights on a rank",
            rule=f"weights and activations leave none of {format_bytes(setup.device.hbm_bytes)} for KV",
            way_out="use more GPUs or a smaller storage type",
        )
    return left


def memory_for(server: Server, policy: Policy, longest: int) -> KvBlocks:
    """The KV pages of one data-parallel rank, by the bytes that a sequence of `longest` tokens keeps."""
    setup = server.setup
    stages = range(setup.layout.pp)
    sequence = max(kv_cache_bytes(setup.architecture, setup.layout, stage, (longest,)) for stage in stages)
    tokens = int(server.kv_bytes_per_rank / (sequence / longest))
    return KvBlocks(max(1, tokens // policy.block_tokens), policy.block_tokens)
