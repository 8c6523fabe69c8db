"""What a scenario file may say of live serving: traffic, engine, scheduler, masters, faults, limits, prices."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictStr, model_validator

from simulator.cost.collective.transfer import Engine as TransferEngine
from simulator.engine.fleet_spec import FirstToken
from simulator.scenario.fields import (
    Count,
    Limit,
    Many,
    Name,
    Natural,
    Number,
    Part,
    Positive,
    Rate,
    Share,
    Size,
    Text,
    Time,
)

Arrivals = Literal["poisson", "gamma", "constant", "closed_loop", "curve", "day", "trace"]
TraceFormat = Literal["auto", "azure", "mooncake", "burstgpt", "servegen", "vllm"]


class LengthSpec(Part):
    """A law of token counts."""

    mean: Annotated[Number, Field(ge=1)]
    spread: Annotated[Number, Field(ge=0, lt=1)] = Field(default=0.0, description="evenly from mean x [1 - s, 1 + s]")
    cv: Annotated[Number, Field(ge=0, le=100)] = Field(default=0.0, description="log-normal, standard deviation / mean")
    most: Natural = Field(default=0, description="longer ones are cut to this; 0: none are")


def _length(value: Any) -> Any:
    return {"mean": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


Length = Annotated[LengthSpec, BeforeValidator(_length, json_schema_input_type=LengthSpec | int)]


class WaitSpec(Part):
    """A law of times, log-normal."""

    mean: Time = "0 s"
    cv: Annotated[Number, Field(ge=0, le=100)] = 1.0


def _wait(value: Any) -> Any:
    return {"mean": value, "cv": 0.0} if isinstance(value, str) else value


Wait = Annotated[WaitSpec, BeforeValidator(_wait, json_schema_input_type=WaitSpec | str)]


class RetrievalSpec(Part):
    """Documents that are fetched before each turn and read before the user's words (RAG)."""

    latency: Wait = WaitSpec(mean="0 s", cv=0.0)
    documents: Count = Field(description="documents there are")
    count: Count = Field(description="documents read a turn")
    tokens: Count = Field(description="tokens of one document")
    skew: Annotated[Number, Field(ge=0, le=10)] = Field(default=1.0, description="Zipf exponent of their popularity")


class ToolsSpec(Part):
    """Tool calls inside a turn (MCP)."""

    calls: Count = Field(description="most calls a turn; drawn evenly from 0")
    latency: Wait = WaitSpec(mean="0 s", cv=0.0)
    call: Length = Field(default=LengthSpec(mean=40), description="tokens the model writes to call a tool")
    result: Length = Field(description="tokens that the tool returns")


class ConversationSpec(Part):
    """Several turns whose context grows. `arrivals` and `rate` are those of conversations then."""

    turns: Count = Field(description="most turns of a conversation; drawn evenly from 1")
    think: Wait = Field(default=WaitSpec(), description="from an answer to the user's next words")
    system_tokens: Natural = Field(default=0, description="tokens of the system prompt, the same for all who have it")
    system_prompts: Count = Field(default=1, description="different system prompts")
    retrieval: RetrievalSpec | None = None
    tools: ToolsSpec | None = None
    keep_kv: StrictBool = Field(default=True, description="what was said may be found in the prefix cache next turn")


class TrafficClassSpec(Part):
    """A part of the traffic with a priority of its own."""

    name: Name
    share: Positive = Field(description="of the requests, over the sum of all classes' shares")
    priority: Natural = Field(default=0, description="lower ones are dispatched and admitted first, preempted last")
    input_tokens: Length | None = Field(default=None, description="left out: as the traffic's")
    output_tokens: Length | None = None


class TrafficSpec(Part):
    """Who asks what, and when."""

    arrivals: Arrivals = Field(description="gamma: with `burstiness`; day: between a night's and a peak rate")
    rate: Positive | None = Field(default=None, description="requests (or conversations) a second")
    burstiness: Positive = Field(default=1.0, description="gamma: shape of the gaps; below 1 they come in bursts")
    concurrency: Count | None = Field(default=None, description="closed_loop: clients")
    warmups: Natural | None = Field(default=None, description="closed_loop: requests before the clock; 2 a client")
    curve: list[tuple[Time, Number]] = Field(default=[], description='curve: [["0 s", 2.0], ["1 h", 9.0], ...]')
    low_rate: Positive | None = Field(default=None, description="day: requests a second at night; `rate` is the peak")
    requests: Many | None = Field(default=None, description="how many; of a trace or curve: all of it if left out")
    input_tokens: Length | None = None
    output_tokens: Length | None = None
    range_ratio: Annotated[Number, Field(gt=0, le=1)] = Field(
        default=1.0, description="closed_loop: lengths evenly from [ratio x L, L], as public benchmarks draw them"
    )
    lengths: Text | None = Field(default=None, description="CSV of num_prefill_tokens, num_decode_tokens to draw from")
    trace: Text | None = Field(default=None, description="file (servegen: folder), relative to this file")
    format: TraceFormat = "auto"
    start: Time = Field(default="0 s", description="trace of servegen: where to begin")
    duration: Limit | None = Field(default=None, description="how much of a trace or day")
    speed: Positive = Field(default=1.0, description="trace: requests come so many times as fast")
    only_model: StrictStr = Field(default="", description="trace of burstgpt: requests to this model only")
    too_long: Literal["refuse", "drop"] = Field(default="refuse", description="requests beyond the model's context")
    conversation: ConversationSpec | None = None
    classes: list[TrafficClassSpec] = Field(default=[], description="drawn for each request (or conversation)")
    seed: Natural = 0


class EngineSpec(Part):
    """Whose scheduler, kernels and host times."""

    name: Text = Field(description="vLLM, SGLang or TensorRT-LLM")
    version: StrictStr = Field(default="", description="left out: the newest that is described")


def _engine(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


EngineField = Annotated[EngineSpec, BeforeValidator(_engine, json_schema_input_type=EngineSpec | str)]


class SpeculationSpec(Part):
    """Speculative decoding: tokens drafted a step, each kept with a probability."""

    tokens: Count
    acceptance: Share
    draft_share: Share = Field(default=0.0, description="time of drafting one token over that of a decode step")


class KvTierSpec(Part):
    """A store for prefix blocks that the GPU has no more room for."""

    name: Name
    size: Size = Field(description='of each replica, e.g. "512 GiB"; of all together where it is shared')
    bandwidth: Rate | None = Field(
        default=None, description='to one replica, e.g. "50 GB/s"; left out: its GPUs\' PCIe, together'
    )
    latency: Time = Field(default="0 s", description="of a fetch, whatever its size")
    shared: StrictBool = Field(default=False, description="one store for all replicas, which outlives them")


class ServingSpec(Part):
    """How servers are started, where it is not the engine's default."""

    max_batched_tokens: Count | None = None
    max_sequences: Count | None = None
    chunked: StrictBool | None = Field(default=None, description="a prompt may be cut over several steps")
    poll_steps: Count | None = Field(default=None, description="decode steps between looks for new requests")
    together_steps: Natural | None = Field(
        default=None, description="attention ranks wait so many steps for each other's prompts; 0: each for itself"
    )
    memory_share: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        default=None, description="of the GPU (TensorRT-LLM: of what weights leave), for the KV cache and the rest"
    )
    prefix_cache: StrictBool | None = Field(default=None, description="left out: on where prompts share anything")
    kv_tiers: list[KvTierSpec] = Field(
        default=[], description="where evicted prefix blocks go, in this order: host memory, a remote store"
    )
    preempt: Literal["recompute", "swap"] | None = Field(
        default=None, description="what becomes of a preempted sequence's KV"
    )
    swap_space: Size | None = Field(
        default=None, description='preempt: swap: host memory of each replica; left out: "4 GiB" a GPU'
    )
    speculation: SpeculationSpec | None = None
    first_token: FirstToken | None = Field(default=None, description="of pools apart: when the client sees it")

    @model_validator(mode="after")
    def _swaps(self) -> "ServingSpec":
        if self.swap_space is not None and self.preempt != "swap":
            raise ValueError("has swap_space, which only preempt: swap uses; add it, or take swap_space out")
        names = [tier.name for tier in self.kv_tiers]
        if len(set(names)) < len(names):
            raise ValueError(f"kv_tiers have one name twice ({', '.join(names)}); rename one")
        return self


class TransferField(Part):
    """How KV goes from prefill to decode replicas."""

    when: Literal["layerwise", "end"] = Field(default="layerwise", description="pushed while computed, or after")
    engine: TransferEngine | None = Field(default=None, description="left out: the serving engine's usual one")
    reserve: Literal["before_prefill", "before_transfer"] | None = None
    local_below: Natural = Field(default=0, description="shorter prompts are computed on the decode replica")


class MastersSpec(Part):
    """Global schedulers in front of the replicas."""

    count: Count = 1
    policy: Text = "least_loaded"
    dispatch: Time = Field(default="0 s", description="time a master is busy with one request")
    refresh: Time = Field(default="0 s", description="between two looks at the replicas' loads; 0: always up to date")
    max_waiting: Natural = Field(default=0, description="requests a master holds before it refuses more; 0: any number")
    heartbeat: Time = Field(default="1 s", description="a dead master or replica is noticed so long after")


class ServingFaultSpec(Part):
    """Something of the fleet fails or slows down."""

    kind: Literal["gpu", "replica", "node", "nic", "link", "master"]
    target: Text | list[Text] = Field(description="prefill0, node3, master1, 17 (a GPU), or prefill0->decode1")
    at: Time | None = None
    repair: Limit | None = Field(default=None, description="after so long it is as before; left out: never")
    every: Limit | None = Field(default=None, description="in place of `at`: mean time between failures, by chance")
    speed: Annotated[Number, Field(ge=0, lt=1)] = Field(default=0.0, description="what is left; 0: it is down")

    @model_validator(mode="after")
    def _one_of(self) -> "ServingFaultSpec":
        if (self.at is None) == (self.every is None):
            raise ValueError("has either `at` or `every`; at: when it fails, every: mean time between failures")
        if self.every is not None and self.repair is None:
            raise ValueError("faults by chance need `repair`; give the mean time to repair")
        return self


class SloSpec(Part):
    """Limits that a good request keeps, all of them."""

    ttft: Limit | None = None
    tpot: Limit | None = None
    e2el: Limit | None = None
    share: Annotated[Number, Field(gt=0, le=1)] = Field(
        default=0.9, description="of the requests that must keep them for the run to pass"
    )

    @model_validator(mode="after")
    def _some(self) -> "SloSpec":
        if self.ttft is None and self.tpot is None and self.e2el is None:
            raise ValueError('limits nothing; give ttft, tpot or e2el, e.g. "200 ms"')
        return self


class PricesSpec(Part):
    """What a GPU costs."""

    usd_per_gpu_hour: Positive | dict[Name, Positive] | None = Field(
        default=None, description="one price, or one a kind of GPU; left out: the shipped table's"
    )
    kind: Text = Field(default="rental", description="row of the shipped table: hyperscaler, neocloud, rental")


class TraceWindowSpec(Part):
    """The part of the run that trace.json shows."""

    start: Time = "0 s"
    length: Limit = "10 s"
