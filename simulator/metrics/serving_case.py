"""One scenario of live serving, resolved: a fleet, what is asked of it, and what is to be said of the run."""

from dataclasses import dataclass, field

from simulator.cost.table import Setup
from simulator.engine.fleet_spec import Fleet, Role
from simulator.workload.closed_loop import ClosedLoop
from simulator.workload.requests import Requests


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits that a good request keeps, all that are given; `share` of the requests must for the run to pass."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2el_s: float | None = None
    share: float = 0.9

    def limits_ms(self) -> dict[str, float]:
        """By the names of `vllm bench serve --goodput`."""
        given = {"ttft": self.ttft_s, "tpot": self.tpot_s, "e2el": self.e2el_s}
        return {name: value * 1e3 for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What the report needs to know of a pool beyond its replicas' specs."""

    name: str
    role: Role
    setup: Setup
    replicas: int
    gpus: int
    """Of one replica."""
    kv_blocks: int
    """Pages of one attention rank."""
    block_tokens: int
    usd_per_gpu_hour: float | None
    """None: no price is known."""
    price_source: str = ""


@dataclass(frozen=True, slots=True)
class ServingCase:
    """What `simulator.metrics.serving_run.run_serving` runs."""

    name: str
    description: str
    fleet: Fleet
    workload: Requests | ClosedLoop
    pools: tuple[PoolFacts, ...]
    slo: Slo | None = None
    window_s: tuple[float, float] = (0.0, 10.0)
    """Part of the run that the trace shows: from, to."""
    seed: int = 0
    engine: str = ""
    rate_per_s: float | None = None
    """Requests a second that were asked for; None: as fast as answers come, or as recorded."""
    burstiness: float = 1.0
    facts: dict[str, object] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    """Names of the traffic's classes, by `Requests.kind`."""

    @property
    def requests(self) -> Requests:
        """The requests, of either loop."""
        return self.workload.requests if isinstance(self.workload, ClosedLoop) else self.workload
