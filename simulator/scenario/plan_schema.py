"""What a plan's file may say (`shardsim plan`)."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictStr

from simulator.errors import ShardsimError
from simulator.model.quantization import canonical_dtype
from simulator.scenario.fields import Count, Limit, Name, Natural, Part, Positive, Text
from simulator.units import parse_bandwidth


def _precision(value: str) -> str:
    if value == "checkpoint":
        return value
    try:
        return canonical_dtype(value)
    except ShardsimError as error:
        raise ValueError(f'{error.rule}; {error.way_out}, or "checkpoint"') from None


def _bandwidth(value: str) -> str:
    try:
        parse_bandwidth(value)
    except ShardsimError as error:
        raise ValueError(f"{error.rule}; {error.way_out}") from None
    return value


Precision = Annotated[StrictStr, AfterValidator(_precision)]
Bandwidth = Annotated[StrictStr, AfterValidator(_bandwidth)]
EngineName = Literal["vllm", "sglang", "tensorrt-llm"]


class StoredSpec(Part):
    """One choice of storage."""

    weights: Precision = Field(default="checkpoint", description="weights and experts; checkpoint: as published")
    kv_cache: Precision = Field(default="checkpoint", description="KV cache; checkpoint: as published, bf16 mostly")


def _stored(value: Any) -> Any:
    return {"weights": value} if isinstance(value, str) else value


Stored = Annotated[StoredSpec, BeforeValidator(_stored, json_schema_input_type=StoredSpec | str)]


class PlanTrafficSpec(Part):
    """What clients send: a rate and lengths, or a trace."""

    requests_per_s: Positive | None = Field(default=None, description="load to serve; left out: as much as can be")
    input_tokens: Count | None = Field(default=None, description="longest prompt; of a trace: as it says")
    output_tokens: Count | None = Field(default=None, description="longest answer; of a trace: as it says")
    range_ratio: Annotated[Positive, Field(le=1)] = Field(
        default=1.0, description="lengths are drawn evenly from [ratio x longest, longest]"
    )
    burstiness: Positive = Field(default=1.0, description="shape of the Gamma gaps between requests; 1: Poisson")
    trace: Text | None = Field(default=None, description="a trace file, relative to this one")
    trace_format: Literal["azure", "mooncake", "burstgpt"] = "azure"
    longest_tokens: Natural = Field(default=0, description="prompts of a trace beyond this are left out; 0: none")
    seed: Natural = 0
    cached_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="part of a mean prompt that all prompts begin with, found in the prefix cache"
    )


class DraftSpec(Part):
    """Speculative decoding: tokens are drafted, and verified together."""

    tokens: Annotated[Count, Field(le=16)] = Field(description="drafted for each sequence and step")
    acceptance: Annotated[Positive, Field(le=1)] = Field(description="chance of each, those before it accepted")
    draft_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="time of drafting one over a decode step's; left out: one layer's (MTP)"
    )


class SloSpec(Part):
    """Limits that the percentile of requests keeps."""

    ttft: Limit | None = Field(default=None, description='time to the first token, e.g. "1 s"')
    tpot: Limit | None = Field(default=None, description='time per output token after the first, e.g. "50 ms"')
    e2el: Limit | None = Field(default=None, description="time to the last token")
    percentile: Annotated[Positive, Field(ge=50, lt=100)] = 95.0


class HardwareSpec(Part):
    """One kind of hardware that can be had: a topology, or a kind of GPU in its usual node."""

    topology: Text | None = Field(default=None, description="a shipped topology, or the path of one")
    gpu: Text | None = Field(default=None, description="a GPU of the catalogue, in nodes of its datasheet's links")
    gpus_per_node: Count | None = Field(default=None, description="with `gpu`; left out: 8, or 72 for NVL72 racks")
    nic: Bandwidth | None = Field(default=None, description='with `gpu`: network of one GPU, e.g. "400 Gbit/s"')
    max_gpus: Count
    usd_per_gpu_hour: Positive | None = Field(default=None, description="left out: a dated default, where there is one")


class SpaceSpec(Part):
    """Which candidates are looked at; a list left out: every size that is legal."""

    modes: list[Literal["aggregated", "separated"]] = Field(default=["aggregated", "separated"], min_length=1)
    tp: list[Count] = Field(default=[])
    pp: list[Count] = Field(default=[])
    dp_attention: list[Count] = Field(default=[])
    ep: list[Count] = Field(default=[], description="experts; what it leaves of tp x cp x dp_attention is moe_tp")
    cp: list[Count] = Field(default=[1], min_length=1, description="context parallel, TensorRT-LLM only")
    tp_across_nodes: bool = Field(default=False, description="also tp beyond a node, where no tp is listed")
    max_sequences: list[Count] = Field(default=[512], min_length=1, description="of one attention rank")
    max_batched_tokens: list[Count] = Field(default=[8192], min_length=1, description="new tokens of one step")
    most_replica_gpus: Natural = Field(default=0, description="GPUs of the largest replica; 0: all there are")


class PlanSpec(Part):
    """A question: a model, traffic, limits, hardware, and what is best."""

    name: Name = ""
    description: StrictStr = ""
    model: Text = Field(description="name in the catalogue, or path of a config.json relative to this file")
    objective: Literal["min_gpus", "max_load", "min_cost", "pareto"]
    traffic: PlanTrafficSpec
    slo: SloSpec = SloSpec()
    hardware: list[HardwareSpec] = Field(min_length=1)
    max_gpus: Count | None = Field(default=None, description="over all hardware; left out: the most of any kind")
    precisions: list[Stored] = Field(default=[StoredSpec()], min_length=1)
    engines: list[EngineName] = Field(default=["vllm"], min_length=1)
    space: SpaceSpec = SpaceSpec()
    router: Literal["round_robin", "least_loaded", "power_of_two", "prefix_aware"] = Field(
        default="round_robin", description="how the fleet's router deals requests to replicas"
    )
    speculation: DraftSpec | None = Field(default=None, description="drafted tokens; left out: none")
    two_batch_overlap: bool = Field(
        default=False, description="with expert parallelism half a batch computes while the other communicates"
    )
    confirm: Annotated[Count, Field(le=1000)] = Field(default=10, description="candidates that are simulated at least")
