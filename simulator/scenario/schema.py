"""What a scenario file may say. One problem a field, checked here; what needs the model or the cluster, in resolve."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    model_validator,
)

from simulator.collectives.build import algorithms
from simulator.collectives.schedule import Kind
from simulator.engine.deployment import Fidelity, Role
from simulator.errors import ShardsimError
from simulator.model.quantization import canonical_dtype
from simulator.numeric.rounding import DType
from simulator.parallel.layout import AXES, Dispatch
from simulator.program.frame import ELEMENT_BYTES, ExpertKernel
from simulator.scenario.fields import Count, Name, Natural, Number, Part, Text, Time
from simulator.scenario.serving_schema import (
    EngineField,
    MastersSpec,
    PricesSpec,
    ServingFaultSpec,
    ServingSpec,
    SloSpec,
    TraceWindowSpec,
    TrafficSpec,
    TransferField,
)


def _storage(value: str) -> str:
    try:
        return canonical_dtype(value)
    except ShardsimError as error:
        raise ValueError(f"{error.rule}; {error.way_out}") from None


def _transport(value: str) -> str:
    if value not in ELEMENT_BYTES:
        raise ValueError(f"must be one of {', '.join(ELEMENT_BYTES)}")
    return value


def _axis(value: str) -> str:
    if value not in AXES:
        raise ValueError(f"must be one of {', '.join(AXES)}")
    return value


Storage = Annotated[StrictStr, AfterValidator(_storage)]
Transport = Annotated[StrictStr, AfterValidator(_transport)]


def _algorithms(value: dict[Kind, str]) -> dict[Kind, str]:
    for kind, algorithm in value.items():
        if algorithm not in algorithms(kind):
            raise ValueError(f"{algorithm!r} is no algorithm for {kind}; use {', '.join(algorithms(kind))}")
    return value


Algorithms = Annotated[dict[Kind, StrictStr], AfterValidator(_algorithms)]


class LayoutSpec(Part):
    """Ranks along each kind of parallelism. Ranks of a pool: dp * pp * dp_attention * cp * tp."""

    tp: Count = Field(default=1, description="tensor parallel: every weight matrix is cut over so many ranks")
    pp: Count = Field(default=1, description="pipeline parallel: stages of consecutive layers")
    dp: Count = Field(default=1, description="whole replicas")
    cp: Count = Field(default=1, description="context parallel: the tokens of a prompt are cut over so many ranks")
    dp_attention: Count = Field(
        default=1, description="data-parallel attention: ranks that attend to their own sequences and share the experts"
    )
    ep: Count = Field(default=1, description="expert parallel; divides dp_attention * cp * tp")
    moe_tp: Natural = Field(default=0, description="tensor parallel inside an expert; 0: what ep leaves over")
    sequence_parallel: StrictBool = Field(default=False, description="cut norms and the residual stream over tp")
    micro_batches: Count = Field(default=1, description="parts a batch is cut into on its way through the pipeline")
    moe_dispatch: Dispatch = Field(default="auto", description="how tokens reach their experts")
    redundant_experts: Natural = Field(default=0, description="copies of busy experts (DeepSeek's EPLB)")
    rank_order: list[Annotated[StrictStr, AfterValidator(_axis)]] = Field(
        default=list(AXES), min_length=len(AXES), max_length=len(AXES), description="mesh axes, slowest first"
    )

    @property
    def ranks(self) -> int:
        """GPUs this layout needs."""
        return self.dp * self.pp * self.dp_attention * self.cp * self.tp


class PoolSpec(Part):
    """GPUs that share one layout."""

    name: Name = "pool"
    role: Role = Field("mixed", description="mixed: prefill and decode; or one of the two, with a KV-cache hand-over")
    layout: LayoutSpec = LayoutSpec()
    gpus: list[StrictInt | StrictStr] | StrictStr | None = Field(
        default=None, description='e.g. "0-7", "0-3, 8-11" or [0, 1, "4-7"]; left out: the next free ones in order'
    )
    replicas: Count = Field(default=1, description="traffic: so many servers of this layout")
    topology: Text | None = Field(default=None, description="traffic: a pool on other machines than the scenario's")
    nodes: Count | None = Field(default=None, description="traffic: how many of those; left out: as many as it needs")


class WorkloadSpec(Part):
    """Prompts that are prefilled in one step, then decoded together."""

    sequences: Count = Field(description="requests in the batch, over the whole pool")
    prompt_tokens: Count = Field(description="tokens of the longest prompt")
    decode_steps: Natural = Field(description="tokens generated a sequence, one a step")
    spread: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.0, description="prompt lengths are drawn evenly from [(1 - spread) prompt_tokens, prompt_tokens]"
    )
    seed: Natural = 0


class PrecisionSpec(Part):
    """Storage types, where they differ from the checkpoint's."""

    weights: Storage | None = Field(default=None, description="attention, dense blocks and shared experts")
    experts: Storage | None = Field(default=None, description="routed experts")
    kv_cache: Storage | None = None
    activations: Storage | None = None
    attention: Storage | None = Field(default=None, description="attention projections where not as weights")


class ExpertsSpec(Part):
    """How busy experts are, and what travels to them."""

    skew: Annotated[Number, Field(ge=0, le=10)] = Field(
        default=0.0, description="exponent of a Zipf law; 0: all as busy"
    )
    dispatch: Transport = Field(default="bf16", description="format of tokens on their way to experts")
    combine: Transport = Field(default="bf16", description="format of experts' outputs on their way back")
    kernel: ExpertKernel = Field(
        default="auto", description="what carries tokens; auto: DeepEP, low latency in decode, normal in prefill"
    )


class CollectivesSpec(Part):
    """How collectives are simulated, and algorithms forced upon them."""

    fidelity: Fidelity = Field(
        default="auto",
        description="closed_form: formulas; stepwise: chunk by chunk; flow: fair shares of links; auto: stepwise "
        "where numbers are, else closed_form",
    )
    algorithms: Algorithms = Field(default={}, description="kind of collective: algorithm, e.g. all_reduce: ring")


class KernelsSpec(Part):
    """Where kernel times come from before the fitted models are asked."""

    measured: Text | None = Field(
        default=None,
        description="silicon: tables of the extra shardsim[silicon]; or a profile of `shardsim calibrate`, relative "
        "to this file",
    )


class NumbersSpec(Part):
    """The miniature whose sharded numbers are compared with the unsharded ones."""

    enabled: StrictBool = True
    prompt_lengths: list[Annotated[StrictInt, Field(ge=1, le=4096)]] = Field(
        default=[5, 9, 3, 7], min_length=1, max_length=4096, description="tokens of each of the miniature's prompts"
    )
    decode_steps: Annotated[StrictInt, Field(ge=0, le=1024)] = 4
    dtypes: list[DType] = Field(
        default=["float64"], min_length=1, description="the first runs with time, others beside it for their errors"
    )
    layers: list[Natural] = Field(default=[], description="layers kept; empty: the fewest that show every kind")
    seed: Natural = 7
    checkpoint: StrictStr = Field(
        default="",
        description="safetensors file or folder: the model itself, with its weights, in place of a miniature",
    )


def _numbers(value: Any) -> Any:
    if value in ("off", False):
        return {"enabled": False}
    return {} if value in ("on", True) else value


class FaultSpec(Part):
    """A link that fails or slows down; needs `collectives.fidelity: flow`."""

    source: Text = Field(alias="from", description="vertex the link leaves, as `shardsim topology show` names it")
    destination: Text = Field(alias="to", description="vertex the link enters, e.g. leaf3")
    at: Time = Field(default="0 s", description='e.g. "5 ms" into the run')
    factor: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.0, description="part of the bandwidth that is left; 0: it is down"
    )


def _fault_kind(value: Any) -> str:
    # Brackets keep the tag out of what messages name: `told` takes it for no key.
    return "[serving]" if isinstance(value, dict) and "kind" in value else "[link]"


AnyFault = Annotated[
    Annotated[FaultSpec, Tag("[link]")] | Annotated[ServingFaultSpec, Tag("[serving]")], Discriminator(_fault_kind)
]


class ScenarioSpec(Part):
    """One deployment: a model, a cluster, layouts and the work they are given."""

    name: Name = ""
    description: StrictStr = ""
    model: Text = Field(description="name in the catalogue, or path of a config.json relative to this file")
    precision: Storage | PrecisionSpec | None = Field(
        default=None, description="e.g. fp8 for weights and experts, or an object; left out: the checkpoint's own"
    )
    topology: Text = Field(description="name of a shipped topology, or path of one relative to this file")
    nodes: Count | None = Field(default=None, description="nodes of the cluster; left out: one")
    layout: LayoutSpec | None = Field(default=None, description="short for one pool of role mixed")
    pools: list[PoolSpec] = Field(
        default=[], description="one mixed pool, or a prefill and a decode pool; traffic: any number of either"
    )
    workload: WorkloadSpec | None = Field(default=None, description="one batch, step by step, with its numbers")
    traffic: TrafficSpec | None = Field(default=None, description="live serving: who asks what, and when")
    engine: EngineField | None = Field(default=None, description="left out: vLLM for traffic, bare kernels for steps")
    serving: ServingSpec = ServingSpec()
    transfer: TransferField = TransferField()
    masters: MastersSpec = MastersSpec()
    slo: SloSpec | None = Field(default=None, description="limits that a good request keeps")
    prices: PricesSpec = PricesSpec()
    trace_window: TraceWindowSpec = TraceWindowSpec()
    experts: ExpertsSpec = ExpertsSpec()
    collectives: CollectivesSpec = CollectivesSpec()
    kernels: KernelsSpec = KernelsSpec()
    numbers: Annotated[
        NumbersSpec, BeforeValidator(_numbers, json_schema_input_type=NumbersSpec | bool | Literal["on", "off"])
    ] = NumbersSpec()
    faults: list[AnyFault] = Field(
        default=[], description="links (steps), or parts of the fleet (traffic), that fail or slow down during the run"
    )
    memory_margin: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.1, description="part of a GPU's memory left to the runtime"
    )

    @model_validator(mode="after")
    def _asked(self) -> "ScenarioSpec":
        if self.workload is None and self.traffic is None:
            raise ValueError("has neither `workload` nor `traffic`; add one: a batch of steps, or live requests")
        idle = self._idle()
        if idle is not None:
            missing = "traffic" if self.traffic is None else "workload"
            raise ValueError(f"`{idle}` changes nothing without `{missing}`; take it out, or add `{missing}`")
        return self

    def _idle(self) -> str | None:
        """A field that was given but that nothing of this scenario reads."""
        if self.traffic is not None and self.workload is not None:
            return None
        given = self.model_fields_set
        if self.workload is None:
            steps = {"collectives", "memory_margin"} | ({"numbers"} if self.numbers.enabled else set())
            return min(steps & given, default=None)
        for index, pool in enumerate(self.pools):
            if pool.replicas > 1 or pool.topology is not None or pool.nodes is not None:
                return f"pools[{index}]: replicas, topology, nodes"
        if any(isinstance(fault, ServingFaultSpec) for fault in self.faults):
            return "faults: kind"
        return min({"serving", "transfer", "masters", "slo", "prices", "trace_window"} & given, default=None)


class VariantSpec(Part):
    """One scenario of a comparison."""

    name: Name
    scenario: Text | None = Field(
        default=None, description="file to start from, relative to this one; left out: `base`"
    )
    set: dict[StrictStr, Any] = Field(default={}, description="fields laid over it: dotted path: value")


class ComparisonSpec(Part):
    """Several deployments side by side."""

    name: Name = ""
    description: StrictStr = ""
    base: dict[StrictStr, Any] | None = Field(default=None, description="fields of a scenario that the variants share")
    compare: list[VariantSpec] = Field(min_length=1)
