"""A step of one pool under wide expert parallelism: kernels, DeepEP's exchanges, and two batches that overlap.

Two halves of a batch take turns, one computing while the other communicates (DeepSeek-V3, arXiv:2412.19437, section
3.4). Normal exchange kernels hold SMs, but only while they run; low-latency ones hold none.
"""

from dataclasses import dataclass, replace

from simulator.cost.engine_profile import find_engine
from simulator.cost.table import DirectPricer, Setup
from simulator.engine.server import BALANCED_EP, ROUTING_SKEW, kv_memory_bytes
from simulator.errors import DataError
from simulator.hardware.catalogue import find_device
from simulator.model.architecture import Architecture, MixtureOfExperts
from simulator.parallel.layout import Layout
from simulator.program.frame import Options
from simulator.program.memory import kv_cache_bytes
from simulator.topology.group import GroupLinks
from simulator.validation.context import Context
from simulator.validation.links import group_links
from simulator.validation.serving_setup import policy_name, stored
from simulator.validation.wide_ep_text import PREFILL_TOKENS, REDUNDANT, WideRow

COMMUNICATION_SMS = 20
"""SMs of DeepEP's normal kernels (README, 2025-02); 0 for low-latency ones."""
MOST_SEQUENCES = 1024
"""Largest batch of a rank that is assumed where none is stated."""
ACCEPTED = 1.85
"""Tokens a step with one drafted: its acceptance is 85 to 90 % (arXiv:2412.19437, section 5.4.3)."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one step without and with overlap of two halves, of which engines run the shorter; tokens that a GPU
    handles in it, and the prompt tokens or sequences it holds."""

    plain_s: float
    overlapped_s: float
    tokens: float
    batch: int

    @property
    def step_s(self) -> float:
        """Seconds of a step as it runs."""
        return min(self.plain_s, self.overlapped_s)


def mixture_of(model: Architecture) -> MixtureOfExperts:
    """The experts of a model. Raises DataError for a dense one."""
    for layer in model.distinct_layers:
        if isinstance(layer.feed_forward, MixtureOfExperts):
            return layer.feed_forward
    raise DataError(where="model", given=model.name, rule="has no experts to spread")


def copies_of(experts: int, ep: int, stated: int) -> int:
    """Redundant experts: as stated, else DeepSeek's 32 where many ranks share them evenly, else the fewest that do."""
    if stated >= 0 and (experts + stated) % ep == 0:
        return stated
    if ep >= BALANCED_EP and (experts + REDUNDANT) % ep == 0:
        return REDUNDANT
    return -experts % ep


def pricer(row: WideRow, model: str, gpu: str, framework: str, context: Context) -> tuple[DirectPricer, float]:
    """What prices the pool's steps, and how unevenly its experts are busy. Raises ShardsimErrors."""
    architecture = stored(context.model(model), row.precision)
    copies = copies_of(mixture_of(architecture).experts, row.ep, row.redundant)
    layout = Layout(tp=row.tp, dp_attention=max(1, row.ep // row.tp), ep=row.ep, redundant_experts=copies)

    def links(axes: tuple[str, ...]) -> GroupLinks:
        return group_links(gpu, layout.size(axes), row.node)

    kernel = "deepep_low_latency" if row.phase == "decode" else "deepep_normal"
    options = Options(dispatch_dtype="fp8_block", combine_dtype="bf16", expert_kernel=kernel)  # type: ignore[arg-type]
    engine = find_engine(policy_name(framework) or "sglang")
    setup = Setup(architecture, layout, find_device(gpu), links, engine, options)
    return DirectPricer(setup), 0.0 if copies or row.ep >= BALANCED_EP else ROUTING_SKEW


def batch_of(row: WideRow, setup: Setup) -> int:
    """Tokens or sequences of a GPU: as stated, else SGLang's for prompts, and as many decodes, in powers of two, as the
    memory for KV holds (which is 256 at 2,000 tokens and 128 at 4,000, as stated where it is)."""
    if row.tokens:
        return row.tokens
    if row.phase == "prefill":
        return PREFILL_TOKENS
    sequence = kv_cache_bytes(setup.architecture, setup.layout, 0, (row.context,))
    held = int(min(MOST_SEQUENCES, max(1.0, kv_memory_bytes(setup) / sequence)))
    return 1 << (held.bit_length() - 1)


def timing(row: WideRow, model: str, gpu: str, framework: str, context: Context) -> Timing:
    """One step of the pool on one GPU."""
    direct, skew = pricer(row, model, gpu, framework, context)
    row = replace(row, tokens=batch_of(row, direct.setup))
    decode = row.phase == "decode"
    verified = 2 if decode and row.speculative else 1
    tokens = row.tokens * verified
    attention = _attention(direct, row, verified)
    sampled = tokens if decode else max(1, tokens // max(1, row.context))
    head = direct.head(0, sampled).time_s
    whole, half = direct.body(0, tokens, decode, skew), direct.body(0, max(1, tokens // 2), decode, skew)
    held = 0 if decode else COMMUNICATION_SMS
    share = held / direct.setup.device.sm_count
    plain = whole.time_s + attention + head
    compute = half.compute_s + attention / 2.0 + half.comm_s * share
    turns = 2.0 * max(compute, half.comm_s) + min(compute, half.comm_s) / len(direct.setup.architecture.layers) + head
    host = direct.setup.engine.host_s(sampled)
    handled = row.tokens * (ACCEPTED if verified > 1 else 1.0)
    return Timing(max(plain, host), max(turns, host), handled, row.tokens)


def _attention(direct: DirectPricer, row: WideRow, verified: int) -> float:
    if row.phase == "decode":
        return direct.decode_attention(0, row.tokens, row.tokens * row.context, verified).time_s
    new = max(1, round(row.context * (1.0 - row.cached)))
    prompts = max(1, round(row.tokens / new))
    return direct.prefill_attention(0, max(1, row.tokens // prompts), row.context - new, prompts).time_s
