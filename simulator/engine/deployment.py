"""What is to be simulated: a model on pools of GPUs of a cluster, and the work they are given."""

from dataclasses import dataclass, field
from typing import Literal

from simulator.cost.engine_profile import EngineProfile
from simulator.model.architecture import Architecture
from simulator.numeric.rounding import DType
from simulator.parallel.layout import Layout
from simulator.program.build import DEFAULTS
from simulator.program.frame import Options
from simulator.topology.cluster import Cluster

Role = Literal["mixed", "prefill", "decode"]
Fidelity = Literal["auto", "stepwise", "flow", "closed_form"]


@dataclass(frozen=True, slots=True)
class Pool:
    """Ranks that share one layout. `gpus[rank]` is the rank's GPU in the cluster."""

    name: str
    role: Role
    layout: Layout
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepWorkload:
    """`sequences` prompts of `prompt_tokens` each, prefilled in one step, then decoded for some steps.

    prompt_tokens_spread draws lengths uniformly from [(1 - spread) L, L]; 0: all equal.
    """

    sequences: int
    prompt_tokens: int
    decode_steps: int
    prompt_tokens_spread: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Numbers:
    """The miniature that runs beside the full-size model; `enabled` False prices only."""

    enabled: bool = True
    prompt_lengths: tuple[int, ...] = (5, 9, 3, 7)
    decode_steps: int = 4
    dtypes: tuple[DType, ...] = ("float64",)
    """The first is simulated with time; the others are run beside it for their errors."""
    layers: tuple[int, ...] = ()
    """Layers of the full model that the miniature keeps; empty: the fewest that show every kind."""
    seed: int = 7
    checkpoint: str = ""
    """A safetensors file or folder: the model itself, whole and with its own weights, in place of a miniature."""


@dataclass(frozen=True, slots=True)
class LinkFault:
    """From `at_s` on a link has `factor` of its bandwidth (0: it is down). Seen by fidelity "flow" only."""

    link: int
    at_s: float
    factor: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """One scenario, resolved. With one pool of role "mixed" everything runs there; with a "prefill" and a
    "decode" pool the KV cache is handed over between them.
    """

    name: str
    description: str
    architecture: Architecture
    cluster: Cluster
    pools: tuple[Pool, ...]
    workload: StepWorkload
    numbers: Numbers = Numbers()
    options: Options = DEFAULTS
    algorithms: dict[str, str] = field(default_factory=dict)
    """Collective kind -> algorithm, where the user forces one; others are selected as the library would."""
    fidelity: Fidelity = "auto"
    """auto: collectives of layers with numbers move chunk by chunk over links, others in closed form. flow: all
    transfers share links fairly, and slow each other where they meet."""
    faults: tuple[LinkFault, ...] = ()
    memory_margin: float = 0.1
    """Part of a GPU's memory left to the runtime (engines' gpu_memory_utilization is 1 minus this)."""
    engine: EngineProfile | None = None
    """Whose kernels and all_reduce run; None: the generation's usual kernels and NCCL."""
    facts: dict[str, object] = field(default_factory=dict)
