"""From a plan to its launch material: `material(result, evaluation)`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast, get_args

from simulator.errors import ShardsimError
from simulator.model.catalogue import entries
from simulator.planning.launch import DRAFT_MODEL, ENGINES, Engine, PoolLaunch
from simulator.planning.launch_benchmark import Traffic, benchmark_command
from simulator.planning.launch_engines import router_command, server_commands
from simulator.planning.launch_kubernetes import manifest
from simulator.planning.result import Asked, Evaluation, PlanResult, PoolPlan

NAME = "llm"
GPUS_PER_NODE = 8
"""Of every server board in the catalogue but those of FOUR."""
FOUR = ("GB200", "GB300")
"""Superchips stand four to a host (NVIDIA GB200 NVL72 datasheet, 2024-03)."""
_KV = {"checkpoint": "bf16", "auto": "bf16", "fp16": "bf16", "fp8_e4m3": "fp8"}


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing to copy: a script or a manifest, or why there is none."""

    group: str
    """"vllm", "sglang", "tensorrt-llm", "kubernetes" or "benchmark"."""
    title: str
    text: str
    refused: str = ""


def repository(model: str) -> str:
    """The Hugging Face repository of a model called by its short name; any other name as it is.

    >>> repository("llama-3.1-70b"), repository("my/own")
    ('meta-llama/Llama-3.1-70B', 'my/own')
    """
    if "/" in model:
        return model
    names = (name for entry in entries() for name in (entry.name, *entry.names) if "/" in name)
    return next((name for name in names if name.rsplit("/", 1)[1].lower() == model.lower()), model)


def pool_launch(pool: PoolPlan, asked: Asked, engine: Engine, per_node: Mapping[str, int] | None = None) -> PoolLaunch:
    """What is to be started for a planned pool, under any of the engines."""
    default = 4 if pool.gpu.upper().startswith(FOUR) else GPUS_PER_NODE
    return PoolLaunch(
        name="serve" if pool.role == "mixed" else pool.role,
        model=repository(asked.model),
        engine=engine,
        layout=pool.layout,
        servers=max(1, pool.replicas),
        role=pool.role,
        gpus_per_node=(per_node or {}).get(pool.platform, default),
        kv_dtype=_KV.get(pool.kv_cache, pool.kv_cache),
        max_batched_tokens=pool.max_batched_tokens,
        max_sequences=pool.max_sequences,
        max_model_tokens=asked.max_input_tokens + asked.max_output_tokens,
        weights="" if pool.precision == "checkpoint" else pool.precision,
        drafted_tokens=0 if pool.role == "prefill" else asked.drafted_tokens,
        draft_model="" if asked.own_draft else DRAFT_MODEL,
        two_batch_overlap=asked.two_batch_overlap and pool.layout.ep > 1,
    )


def planned_traffic(result: PlanResult, evaluation: Evaluation) -> Traffic:
    """The planned load as a benchmark sends it: the asked rate, else the most that the candidate holds.

    Lengths evenly from [ratio x most, most] are sent so; what spreads wider (a trace) is sent at its means. A trace of
    Mooncake's schema (.jsonl) is sent as it is, at the planned rate.
    """
    asked, score = result.asked, evaluation.score
    limits = {"ttft": asked.slo.ttft_s, "tpot": asked.slo.tpot_s, "e2el": asked.slo.e2el_s}
    goodput = {name: 1e3 * limit for name, limit in limits.items() if limit is not None}
    if asked.trace.endswith(".jsonl") and asked.requests_per_s:
        return Traffic(
            asked.mean_input_tokens, asked.mean_output_tokens, trace=asked.trace, trace_speed=asked.trace_speed,
            goodput_ms=goodput,
        )  # fmt: skip
    rate = asked.requests_per_s or (score.load_requests_per_s if score is not None else 0.0)
    spread = max(0.0, asked.max_input_tokens / asked.mean_input_tokens - 1.0)
    return Traffic(
        asked.mean_input_tokens,
        asked.mean_output_tokens,
        rate_per_s=rate,
        spread=spread if spread < 1.0 else 0.0,
        shared_prefix_tokens=asked.shared_tokens,
        goodput_ms=goodput,
    )


def material(
    result: PlanResult, evaluation: Evaluation, per_node: Mapping[str, int] | None = None
) -> tuple[Piece, ...]:
    """Command lines of each engine for each pool, a manifest for the planned engine, and the benchmark.

    `per_node`: GPUs of a node by platform, where it is not the usual count. An engine that cannot start the layout has
    its reason in place of its commands.
    """
    pieces = [_engine(result, evaluation, engine, per_node) for engine in ENGINES]
    planned = evaluation.candidate.pools[0].engine
    if planned in get_args(Engine):
        pools = [pool_launch(p, result.asked, cast(Engine, planned), per_node) for p in evaluation.candidate.pools]
        pieces.append(_piece("kubernetes", "Kubernetes manifest", lambda: manifest(pools, NAME)))

    def benchmark() -> str:
        return benchmark_command(planned_traffic(result, evaluation), repository(result.asked.model)).text()

    return (*pieces, _piece("benchmark", "Benchmark that checks the promise", benchmark))


def _engine(result: PlanResult, evaluation: Evaluation, engine: Engine, per_node: Mapping[str, int] | None) -> Piece:
    def script() -> str:
        pools = [pool_launch(pool, result.asked, engine, per_node) for pool in evaluation.candidate.pools]
        parts = [f"# {command.where}\n{command.text()}" for pool in pools for command in server_commands(pool)]
        if len(pools) > 1:
            prefill, decode = sorted(pools, key=lambda pool: pool.role == "decode")
            urls = [[f"http://{pool.name}-{i}:8000" for i in range(pool.replicas)] for pool in (prefill, decode)]
            command = router_command(prefill, decode, urls)
            parts.append(f"# router; {urls[0][0]} and so on are the servers above\n{command.text()}")
        return "\n\n".join(parts) + "\n"

    return _piece(engine, "Servers", script)


def _piece(group: str, title: str, write: Callable[[], str]) -> Piece:
    try:
        return Piece(group, title, write())
    except ShardsimError as refused:
        return Piece(group, title, "", str(refused))
