"""What a step-time table is built from."""

from collections.abc import Callable
from dataclasses import dataclass, field

from simulator.cost.engine_profile import EngineProfile
from simulator.cost.step import PriceComm
from simulator.errors import WorkloadError
from simulator.hardware.device import Device
from simulator.model.architecture import Architecture
from simulator.parallel.layout import Layout
from simulator.program.frame import Options
from simulator.topology.group import GroupLinks

LinksOf = Callable[[tuple[str, ...]], GroupLinks]
"""Link facts of the groups along mesh axes, e.g. ("tp",), ("ep",), ("pp",)."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """Draft `tokens` a step and verify them together with the next one.

    Each drafted token is accepted with probability `acceptance` if those before it were (Leviathan et al. 2023,
    arXiv:2211.17192, equation 1: tokens a step = (1 - a^(k + 1)) / (1 - a)). `draft_share` is the time of drafting
    one token over that of a decode step of the target at the same batch: 1 / layers for one multi-token-prediction
    layer, the ratio of the models' step times for a draft model.
    """

    tokens: int
    acceptance: float
    draft_share: float

    def __post_init__(self) -> None:
        if self.tokens < 1 or not 0.0 <= self.acceptance <= 1.0 or not 0.0 <= self.draft_share <= 1.0:
            raise WorkloadError(
                where="speculation", given=f"{self}",
                rule="drafts at least one token; acceptance and draft_share lie between 0 and 1",
            )  # fmt: skip

    @property
    def tokens_per_step(self) -> float:
        """Expected output tokens of one sequence and step."""
        return float(sum(self.acceptance**i for i in range(self.tokens + 1)))


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How far the table reaches, and how the engine is run. What lies beyond is priced exactly, op by op."""

    max_tokens: int = 0
    """New tokens of a step; 0: the engine's max_batched_tokens."""
    max_sequences: int = 0
    """Decoding sequences of a step; 0: the engine's."""
    max_context: int = 0
    """Cached tokens of one sequence; 0: the model's positions, at most 262,144."""
    expert_skews: tuple[float, ...] = (0.0,)
    """Zipf exponents of expert popularity that are tabulated, ascending."""
    prompt_skew: float = 0.0
    """The least exponent in a step with one prompt, where experts are not evenly busy (a skew of 0 stays 0): tokens of
    one prompt take after each other. Of what it costs, n prompts of all ranks keep a share of 1 / sqrt(n)."""
    two_batch_overlap: bool = False
    """Each step's batch runs as two halves, one computing while the other communicates."""
    communication_sms: int = 0
    """SMs that two-batch overlap leaves to communication (DeepEP's normal kernels: 20; 0 for low-latency ones)."""
    speculation: Speculation | None = None
    prefill_counts: tuple[int, ...] = (1, 2, 4, 16, 64)
    """Prompts prefilled together that are tabulated."""

    def skew_of(self, skew: float, *, decode: bool) -> float:
        """The exponent that a step runs at: `skew`, in steps with one prompt at least `prompt_skew`."""
        return skew if decode or skew == 0.0 else max(skew, self.prompt_skew)


@dataclass(frozen=True, slots=True)
class Setup:
    """One deployment of one model: everything a step's time depends on but the step itself."""

    architecture: Architecture
    layout: Layout
    device: Device
    links: LinksOf
    engine: EngineProfile
    program: Options = field(default_factory=Options)
    comm: PriceComm | None = None
    """Prices communication in place of the fitted libraries, where more is known of the host; None: as fitted."""
