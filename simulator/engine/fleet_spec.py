"""What a fleet is made of: replicas in pools, how KV moves between them, masters, and what may fail.

Plain frozen data, built by hand, by a scenario or by a planner; `simulator.engine.fleet.serve_fleet` runs it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Literal

from simulator.cost.collective.transfer import MOVERS, Engine
from simulator.engine.step_time import StepTime
from simulator.errors import ScenarioError
from simulator.serving.policy import Policy
from simulator.topology.group import Network

Role = Literal["mixed", "prefill", "decode"]
"""mixed: prompts and answers; prefill: prompts and their first token; decode: answers, and prompts that are cheaper
to compute there (below the fleet's threshold, or after a preemption)."""
FaultKind = Literal["replica", "node", "nic", "link", "master"]
FirstToken = Literal["prefill", "transfer", "decode"]
"""When the client sees its first token. prefill: as the prompt is computed (TensorRT-LLM's context server returns it);
transfer: when the KV has come to the decode replica, which then hands on the token that came with it (SGLang);
decode: the decode replica computes it anew (vLLM with a proxy that asks the prefill replica for one token and drops
it)."""


@dataclass(frozen=True, slots=True)
class KvTierSpec:
    """A store below the GPU's memory for prefix blocks that were evicted from it."""

    name: str
    blocks: int
    """Prefix blocks that it holds; of a rank, or of all replicas together where it is shared."""
    token_s: float
    """Seconds to fetch one token's KV for one rank."""
    fixed_s: float = 0.0
    """And of a fetch, whatever its size."""
    shared: bool = False
    """One store for all replicas that name it, which outlives them; else each rank's own, lost with its replica."""


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """One model replica: `ranks` data-parallel attention ranks that step together on `gpus` GPUs."""

    name: str
    step_time: StepTime
    policy: Policy
    kv_blocks: int
    """KV pages of each rank."""
    role: Role = "mixed"
    pool: str = ""
    ranks: int = 1
    gpus: int = 1
    nodes: tuple[str, ...] = ()
    """Hosts it stands on; it goes down with any of them."""
    nic_bytes_per_s: float = 50e9
    """All its NICs (or NVLinks, where pools share a scale-up domain) together, one direction."""
    prefix_block_tokens: int = 0
    """Tokens of one block of its prefix cache; 0: it has none."""
    kv_tiers: tuple[KvTierSpec, ...] = ()
    """Where evicted prefix blocks go, in this order."""
    swap_blocks: int = 0
    """KV pages of host memory of each rank for sequences that a policy with preempt = "swap" moves out."""
    swap_token_s: float = 0.0
    """Seconds to move one token's KV to host memory or back."""
    exchange_share: float = 0.0
    """Share of a step's time in which its own exchange (experts' tokens, sums) fills the NICs that KV comes over; 0: it
    stays inside the node, beside them."""


@dataclass(frozen=True, slots=True)
class TransferSpec:
    """How KV moves from a prefill to a decode replica: t = fixed + layers x per layer + bytes / (share x line).

    A rank's part of its replica's NICs is its line; transfers share the sender's and the receiver's lines max-min
    fairly. Engine numbers: cost/collective/transfer.
    """

    kv_bytes: Callable[[int], float]
    """Bytes that a prompt of so many tokens moves, over all ranks of one attention rank's tensor group, copies of
    replicated heads and latents counted."""
    layers: int = 0
    engine: Engine = "mooncake-vllm"
    network: Network = "infiniband"
    latency_s: float = 0.0
    layerwise: bool = True
    """Layers are pushed while the prompt is computed, so that little is left at its end; else all after."""
    reserve: Literal["before_prefill", "before_transfer"] = "before_transfer"
    """When the decode replica takes the request's pages: before it is prefilled (SGLang's bootstrap) or when its KV is
    ready to leave (TensorRT-LLM, vLLM's NIXL connector)."""
    first_token: FirstToken = "transfer"

    def __post_init__(self) -> None:
        if self.engine not in MOVERS:
            raise ScenarioError(where="transfer.engine", given=self.engine, rule=f"is none of {', '.join(MOVERS)}")


@dataclass(frozen=True, slots=True)
class MasterSpec:
    """One global scheduler. Requests reach the masters in turn; each serves its queue in order."""

    name: str
    policy: str = "least_loaded"
    """One of `simulator.serving.router.POLICIES`."""
    dispatch_s: float = 0.0
    """Time that it is busy with one request (tokenising, matching prefixes, choosing): 1 / dispatch_s is the most it
    can pass on in a second."""
    refresh_s: float = 0.0
    """Seconds between two looks at the replicas' loads; between them it only knows what it sent itself. 0: always up
    to date."""
    max_waiting: int = 0
    """Requests that it holds before it refuses more; 0: any number."""


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """Something fails, or slows down, at a given time.

    `target`: the name of a replica (also for nic: all its NICs), node or master, or for a link "from->to" by names of
    replicas. `speed`: what is left, 0 for a failure; 0.5 makes a replica's steps take twice as long, or halves a line.
    """

    kind: FaultKind
    target: str
    at_s: float
    repair_s: float = inf
    """Seconds until it is as before; inf: never."""
    speed: float = 0.0

    def __post_init__(self) -> None:
        _positive(f"fault of {self.target}: at_s", self.at_s, zero=True)
        if not self.repair_s > 0.0:
            raise ScenarioError(where=f"fault of {self.target}: repair_s", given=f"{self.repair_s:g}", rule="above 0")
        if not 0.0 <= self.speed < 1.0:
            raise ScenarioError(where=f"fault of {self.target}: speed", given=f"{self.speed:g}", rule="in [0, 1)")


@dataclass(frozen=True, slots=True)
class FaultRate:
    """Faults by chance: exponential times to failure and to repair, each target on its own."""

    kind: FaultKind
    targets: tuple[str, ...]
    mtbf_s: float
    """Mean up-time of one target."""
    repair_s: float
    """Mean time to repair."""
    speed: float = 0.0

    def __post_init__(self) -> None:
        _positive("mtbf_s", self.mtbf_s)
        _positive("repair_s", self.repair_s)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas, masters, transfers and faults. Without masters, one of no cost that is always up to date.

    Raises ScenarioError for names given twice, a prefill pool without a decode pool (and the other way round), pools
    without a transfer, and faults of things that are not there.
    """

    replicas: tuple[ReplicaSpec, ...]
    masters: tuple[MasterSpec, ...] = (MasterSpec("master"),)
    transfer: TransferSpec | None = None
    faults: tuple[FaultSpec, ...] = ()
    fault_rates: tuple[FaultRate, ...] = ()
    heartbeat_s: float = 1.0
    """A dead master or replica is noticed so long after it stopped; only then its requests are taken over."""
    local_below_tokens: int = 0
    """Prompts below so many tokens are computed on the decode replica itself."""
    gpus: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gpus", sum(replica.gpus for replica in self.replicas))
        _named_once("replicas", [replica.name for replica in self.replicas])
        _named_once("masters", [master.name for master in self.masters])
        _positive("heartbeat_s", self.heartbeat_s, zero=True)
        roles = {replica.role for replica in self.replicas}
        if ("prefill" in roles) != ("decode" in roles):
            raise ScenarioError(
                where="replicas", given=", ".join(sorted(roles)), rule="prefill and decode replicas need each other",
                way_out='add a pool of the other role, or make them "mixed"',
            )  # fmt: skip
        if "prefill" in roles and self.transfer is None:
            raise ScenarioError(where="transfer", given="none", rule="pools apart need to know how KV moves")
        for spec in self.replicas:
            for name in ("kv_blocks", "ranks", "gpus"):
                if getattr(spec, name) < 1:
                    raise ScenarioError(where=f"{spec.name}: {name}", given=f"{getattr(spec, name)}", rule="at least 1")
            _positive(f"{spec.name}: nic_bytes_per_s", spec.nic_bytes_per_s)
            if spec.kv_tiers and not spec.prefix_block_tokens:
                raise ScenarioError(
                    where=f"{spec.name}: kv_tiers", given=", ".join(tier.name for tier in spec.kv_tiers),
                    rule="hold blocks of a prefix cache, and there is none", way_out="switch the prefix cache on",
                )  # fmt: skip
            if not 0.0 <= spec.exchange_share <= 1.0:
                given = f"{spec.exchange_share:g}"
                raise ScenarioError(where=f"{spec.name}: exchange_share", given=given, rule="in [0, 1]")
        for fault in self.faults:
            self._known(fault.kind, fault.target)
        for rate in self.fault_rates:
            for target in rate.targets:
                self._known(rate.kind, target)

    def _known(self, kind: str, target: str) -> None:
        replicas = {replica.name for replica in self.replicas}
        known = {
            "master": {master.name for master in self.masters},
            "node": {node for replica in self.replicas for node in replica.nodes},
        }.get(kind, replicas)  # fmt: skip
        parts = target.split("->") if kind == "link" else [target]
        if not all(part in known for part in parts) or (kind == "link" and len(parts) != 2):
            raise ScenarioError(
                where=f"fault of a {kind}", given=target, rule="is not in the fleet",
                way_out=f"one of {', '.join(sorted(known)[:8])}",
            )  # fmt: skip


def _named_once(where: str, names: list[str]) -> None:
    if not names:
        raise ScenarioError(where=where, given="none", rule="a fleet needs at least one")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ScenarioError(where=where, given=twice[0], rule="names must differ")


def _positive(where: str, value: float, *, zero: bool = False) -> None:
    if not (isfinite(value) and (value > 0.0 or (zero and value == 0.0))):
        raise ScenarioError(where=where, given=f"{value:g}", rule="must be finite and positive")
