"""What a plan says: candidates, how each was judged, the winner, and why.

Plain frozen data: the command line prints it, the report draws it, `planning/result_json.py` writes and reads it as
JSON, and a sweep streams `Evaluation`s. Times in seconds, rates per second, money in US dollars. None: not known, or
not applicable.
"""

from dataclasses import dataclass, field
from typing import Literal

from simulator.parallel.layout import Layout

Role = Literal["mixed", "prefill", "decode"]
Objective = Literal["min_gpus", "max_load", "min_cost", "pareto"]
Method = Literal["steady", "simulated", "fleet"]
"""steady: steady-state analysis; simulated: one replica of each pool alone under its share of the traffic; fleet: all
replicas behind a router, with the transfers between pools."""
Status = Literal["illegal", "no_memory", "bound", "misses", "scored", "confirmed"]
"""illegal: the model, the GPU or the engine cannot be run so; no_memory: weights or one request do not fit; bound:
even its best case misses a limit; misses: the steady state (or the simulation) holds no load, or not the asked one
within the GPUs; scored: holds by steady-state analysis; confirmed: holds in a full serving simulation."""
Constraint = Literal["kv_memory", "ttft", "tpot", "e2el", "link", "gpu_count", "batch", "compute", "layout"]
"""What binds: what would have to give for this candidate to do better."""


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Equal replicas of one role."""

    role: Role
    gpu: str
    """Name in the catalogue of GPUs."""
    platform: str
    """Name of the hardware choice in the plan's file (a topology, or a kind of GPU)."""
    layout: Layout
    """Of one replica (dp = 1)."""
    precision: str
    """Storage of weights and experts: "checkpoint" (as published), "bf16", "fp8", "nvfp4", "int8", "int4"."""
    kv_cache: str
    engine: str
    """"vllm", "sglang" or "tensorrt-llm"."""
    max_sequences: int
    """Sequences at a time on one attention rank."""
    max_batched_tokens: int
    """New tokens of one step of one attention rank."""
    replicas: int = 0
    """0: not sized yet."""

    @property
    def gpus_per_replica(self) -> int:
        """GPUs of one replica."""
        return self.layout.ranks

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.replicas * self.layout.ranks


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve: one mixed pool, or a prefill and a decode pool."""

    id: str
    """Readable and unique within a plan, without the sizes that planning finds (replicas)."""
    pools: tuple[PoolPlan, ...]

    @property
    def separated(self) -> bool:
        """Prefill and decode run on GPUs of their own."""
        return len(self.pools) > 1

    @property
    def gpus(self) -> int:
        """All GPUs."""
        return sum(pool.gpus for pool in self.pools)


@dataclass(frozen=True, slots=True)
class Score:
    """How a sized candidate serves: at `load_requests_per_s`, the most it holds within the limits if `at_limit`."""

    method: Method
    gpus: int
    load_requests_per_s: float
    """Most requests a second, all replicas together, at which every limit holds."""
    asked_requests_per_s: float | None
    """Load that was asked for; latencies below are at this load where one was asked, else at the most it holds."""
    ttft_s: float | None
    """At the plan's percentile."""
    tpot_s: float | None
    e2el_s: float | None
    output_tokens_per_s_per_gpu: float
    """At the load that the latencies are told for."""
    tokens_per_s_per_user: float | None
    """1 / TPOT."""
    usd_per_hour: float | None
    usd_per_million_tokens: float | None
    """Per million output tokens at that load."""
    decode_batch: float
    """Mean decoding sequences of one replica."""
    kv_used_share: float
    """Part of the KV memory that the mean load fills."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One candidate and how far it came."""

    candidate: Candidate
    """Sized (replicas above 0) from "scored" on."""
    status: Status
    reason: str
    """Why it went no further, or what binds it, in one sentence."""
    binding: Constraint
    score: Score | None = None
    """Simulated where status is "confirmed", else of the steady state; None where it was never scored."""
    steady: Score | None = None
    """The steady-state score beside a simulated one."""

    @property
    def holds(self) -> bool:
        """It serves within the limits, as far as it was looked at."""
        return self.status in ("scored", "confirmed")


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit beside what the candidate reaches: `used` = value / limit; 1 binds."""

    constraint: Constraint
    value: float
    limit: float
    used: float


@dataclass(frozen=True, slots=True)
class BudgetItem:
    """One kind of op in a step of the winner."""

    phase: Literal["prefill", "decode"]
    pool: int
    """Index into the candidate's pools."""
    name: str
    """"GEMM", "attention", "experts", "all_reduce (tp)", "host", ..."""
    seconds: float
    share: float
    """Of the step."""
    provenance: str
    """"measured", "fitted" or "roofline"."""
    error: float
    """Expected relative error (0.1: 10 %)."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a candidate is as good as it is, and no better."""

    candidate_id: str
    text: str
    binding: Constraint
    limits: tuple[Limit, ...]
    budget: tuple[BudgetItem, ...] = ()
    sensitivity: tuple["Sensitivity", ...] = ()
    """Of a neighbour; the winner's, and more of it, is the plan's own."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The winner's design again with one input changed: its simulated load changed as the steady state's is."""

    name: str
    """"10 % more traffic", "twice the NIC", "next GPU generation: B200", "fp8", "20 % longer prompts", ...."""
    metric: str
    """What is compared: "GPUs", "requests/s", "$/M tokens" or "requests/s per GPU"."""
    before: float
    after: float | None
    """None: with this change the design no longer holds, `note` says why."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """One predicted figure of the answer with the validated error of its family."""

    name: str
    """"ttft_s", "tpot_s", "load_requests_per_s", "gpus", "usd_per_million_tokens"."""
    value: float
    low: float
    high: float
    error: float
    """Median relative error of that family in validation."""
    source: str
    """Which validation, and when."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure the answer is."""

    provenance: tuple[tuple[str, float], ...]
    """("measured" | "fitted" | "roofline" | "host", share of the time on the critical path); sums to 1."""
    intervals: tuple[Interval, ...]
    text: str


@dataclass(frozen=True, slots=True)
class ParetoFront:
    """Candidates that no other beats on both axes, in order of x."""

    name: str
    x: str
    """Field of Score: higher is better where `x_up`, else lower."""
    y: str
    x_up: bool
    y_up: bool
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One simulated load of a confirmed candidate."""

    candidate_id: str
    requests_per_s: float
    """All replicas together."""
    ttft_s: float
    tpot_s: float
    e2el_s: float
    holds: bool


@dataclass(frozen=True, slots=True)
class TrafficPoint:
    """One stretch of time of the winner's simulation at the real traffic."""

    start_s: float
    requests_per_s: float
    ttft_s: float | None
    """At the plan's percentile among the requests that came in this stretch."""
    tpot_s: float | None


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits at a percentile; None: no limit."""

    ttft_s: float | None
    tpot_s: float | None
    e2el_s: float | None
    percentile: float


@dataclass(frozen=True, slots=True)
class Price:
    """What a GPU hour was taken to cost."""

    platform: str
    usd_per_gpu_hour: float
    source: str
    """"user", or the cited table's row with its date."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The question, as resolved."""

    model: str
    """Name in the catalogue of models, or path."""
    objective: Objective
    slo: Slo
    traffic: str
    """In words: "12 requests/s, Poisson; 4,000 in, 500 out"."""
    requests_per_s: float | None
    """None: none was asked for (max_load, pareto)."""
    mean_input_tokens: float
    mean_output_tokens: float
    max_input_tokens: int
    max_output_tokens: int
    max_gpus: int
    prices: tuple[Price, ...]
    trace: str = ""
    """Path of the trace, as the question names it; empty: lengths and a rate were given."""
    trace_speed: float = 1.0
    """The asked rate over the trace's own."""
    shared_tokens: int = 0
    """Tokens that all prompts begin with, kept by prefix caches."""
    drafted_tokens: int = 0
    """Of each decode step; 0: none."""
    own_draft: bool = True
    """The model's own prediction layer drafts; False: a draft model."""
    two_batch_overlap: bool = False


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The whole answer. Equal for equal questions, whatever the number of workers."""

    name: str
    description: str
    asked: Asked
    winner: Evaluation | None
    """None: nothing holds; then `relax` says what would help."""
    evaluations: tuple[Evaluation, ...]
    """Every candidate, best first: confirmed, scored, then the others by status and id."""
    pareto: tuple[ParetoFront, ...]
    explanations: tuple[Explanation, ...]
    """The winner's first, then its neighbours'."""
    sensitivity: tuple[Sensitivity, ...]
    confidence: Confidence | None
    binding: Constraint | None
    """Of the winner; without one, the constraint that stopped most candidates."""
    relax: tuple[str, ...]
    """Where nothing holds: what to give up, the least first."""
    load_points: tuple[LoadPoint, ...]
    traffic: tuple[TrafficPoint, ...]
    notes: tuple[str, ...]
    """What was assumed, and what was left out (candidates never simulated)."""
    elapsed_s: float = field(default=0.0, compare=False)
    """Wall-clock time of the search; not part of the answer, and not written."""

    @property
    def feasible(self) -> bool:
        """Something holds."""
        return self.winner is not None
