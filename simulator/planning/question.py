"""What is asked: a model, traffic, limits, and the hardware that can be had. Picklable, so that tasks can carry it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from simulator.cost.table import Speculation
from simulator.errors import DoesNotFitError, WorkloadError
from simulator.hardware.device import Device
from simulator.model.architecture import Architecture
from simulator.parallel.layout import Layout
from simulator.planning.result import Objective, Slo
from simulator.topology.group import GroupLinks
from simulator.workload import Requests, fixed_lengths, gamma_arrivals, stream, uniform_lengths

BLOCK_TOKENS = 128
"""Of a shared prefix: whole KV pages of every engine (16 to 64 tokens)."""


@dataclass(frozen=True, slots=True)
class Platform:
    """One kind of hardware: nodes (scale-up domains) of equal GPUs, and the network between them."""

    name: str
    device: Device
    per_node: int
    inside: tuple[GroupLinks, ...]
    """Facts of groups of 2, 4, 8 ... GPUs of one node, then of the whole node; empty for nodes of one GPU."""
    across: GroupLinks | None
    """Facts of two whole nodes; None: there is one node only."""
    max_gpus: int
    usd_per_gpu_hour: float | None = None
    price_source: str = ""

    def links(self, layout: Layout) -> Callable[[tuple[str, ...]], GroupLinks]:
        """Facts of the groups over mesh axes, rank i of a replica on GPU i from a node's first GPU on.

        A pipeline's neighbours are a group of two. Raises DoesNotFitError for a group that needs a network between
        nodes where there is none.
        """
        return LayoutLinks(self, layout)

    def group(self, ranks: int, nodes: int, fullest: int) -> GroupLinks:
        """Facts of a group of so many ranks over so many nodes, `fullest` on the fullest."""
        if nodes > 1:
            if self.across is None:
                raise DoesNotFitError(
                    where=self.name, given=f"a group of {ranks} GPUs", rule=f"a node has {self.per_node}, alone",
                )  # fmt: skip
            known = self.across
        else:
            known = next((g for g in self.inside if g.ranks >= ranks), self.inside[-1] if self.inside else None) or (
                self._single()
            )
        return replace(
            known, ranks=ranks, nodes=nodes, ranks_per_node=fullest, multicast=known.multicast and fullest > 1
        )

    def _single(self) -> GroupLinks:
        if self.across is not None:
            return self.across
        return GroupLinks(self.device, 1, 1, 1, "none", 0.0, 0.0, False, 0.0, "none", 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class LayoutLinks:
    """`Platform.links` as a callable that can be pickled."""

    platform: Platform
    layout: Layout

    def __call__(self, axes: tuple[str, ...]) -> GroupLinks:
        """Facts of the first group over these axes, and of the farthest neighbours of a pipeline."""
        groups = self.layout.groups(axes)
        per_node = self.platform.per_node
        if axes == ("pp",):
            crosses = any(a // per_node != b // per_node for g in groups for a, b in pairwise(g))
            ranks = min(2, self.layout.pp)
            return self.platform.group(ranks, 2 if crosses else 1, 1 if crosses else ranks)
        nodes = np.bincount(np.asarray(groups[0]) // per_node)
        return self.platform.group(len(groups[0]), int((nodes > 0).sum()), int(nodes.max()))


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """What clients send: lengths drawn evenly from [ratio x most, most], or a trace."""

    requests_per_s: float | None
    """Load to serve; None: as much as can be."""
    input_tokens: int
    """Longest prompt."""
    output_tokens: int
    """Longest answer."""
    range_ratio: float = 1.0
    burstiness: float = 1.0
    """Shape of the Gamma gaps between requests: 1 is Poisson, below 1 comes in bursts."""
    trace: Requests | None = None
    seed: int = 0
    cached_share: float = 0.0
    """Part of a mean prompt that all prompts begin with (instructions, documents), and that prefix caches keep; of a
    trace that names its blocks, the part that comes again."""
    trace_path: str = ""
    """Of `trace`, as the question names it."""

    @property
    def shares_prefixes(self) -> bool:
        """Whether a prefix cache has something to find."""
        return self.shared_tokens > 0 or bool(self.trace is not None and self.trace.prefixes)

    @property
    def shared_tokens(self) -> int:
        """Tokens of a mean prompt that are found: `cached_share` of it, in whole blocks that the shortest has, too."""
        if self.trace is not None and self.trace.prefixes:
            return int(self.cached_share * self.mean_input)
        shortest = self.input_tokens if self.trace is None else int(self.trace.input_tokens.min())
        if self.trace is None and self.range_ratio < 1.0:
            shortest = max(1, int(self.range_ratio * self.input_tokens))
        return min(int(self.cached_share * self.mean_input), shortest - 1) // BLOCK_TOKENS * BLOCK_TOKENS

    @property
    def block_tokens(self) -> int:
        """Of a block of the prefix cache."""
        return BLOCK_TOKENS if self.trace is None or not self.trace.prefixes else self.trace.prefix_tokens

    @property
    def mean_input(self) -> float:
        """Mean prompt."""
        return (
            _mean(self.input_tokens, self.range_ratio) if self.trace is None else float(self.trace.input_tokens.mean())
        )

    @property
    def mean_output(self) -> float:
        """Mean answer."""
        if self.trace is not None:
            return float(self.trace.output_tokens.mean())
        return _mean(self.output_tokens, self.range_ratio)

    def requests(self, requests_per_s: float, count: int) -> Requests:
        """About `count` requests at that rate, as one of many equal replicas sees them: always the same draws, so that
        two rates differ in nothing but time.

        A trace is dealt in turn to as many replicas as the rate asks for; above its own rate it is played faster.
        """
        if self.trace is None:
            times = gamma_arrivals(stream(self.seed, "arrivals"), 1.0, self.burstiness, count) / requests_per_s
            return Requests(
                times, self._lengths("input_tokens", count), self._lengths("output_tokens", count),
                self._prefixes(count), BLOCK_TOKENS,
            )  # fmt: skip
        dealt = _dealt(self.trace, requests_per_s, count)
        if dealt.prefixes or not self.shared_tokens:
            return dealt
        return replace(dealt, prefixes=self._prefixes(len(dealt)), prefix_tokens=BLOCK_TOKENS)

    def _prefixes(self, count: int) -> tuple[tuple[int, ...], ...]:
        """The blocks that all share; empty where nothing is shared."""
        return (tuple(range(self.shared_tokens // BLOCK_TOKENS)),) * count if self.shared_tokens else ()

    def _lengths(self, name: str, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        tokens = self.input_tokens if name == "input_tokens" else self.output_tokens
        if self.range_ratio == 1.0:
            return fixed_lengths(tokens, count)
        return uniform_lengths(stream(self.seed, name), tokens, self.range_ratio, count)


def _mean(most: int, ratio: float) -> float:
    return (max(1, int(ratio * most)) + most) / 2


def repeated_share(trace: Requests) -> float:
    """Part of all prompt tokens that stand in blocks which an earlier prompt had too: what an endless cache finds.

    >>> import numpy as np
    >>> two = np.array([1024, 1024])
    >>> repeated_share(Requests(np.array([0.0, 1.0]), two, two, ((1, 2), (1, 3)), 512))
    0.25
    """
    seen: set[int] = set()
    found = 0
    for blocks in trace.prefixes:
        found += sum(block in seen for block in blocks)
        seen.update(blocks)
    return min(0.99, found * trace.prefix_tokens / float(trace.input_tokens.sum()))


def trace_rate(trace: Requests) -> float:
    """Requests a second over the whole trace. Raises WorkloadError for one without length in time."""
    span = float(trace.arrival_s[-1] - trace.arrival_s[0])
    if len(trace) < 2 or span <= 0.0:
        raise WorkloadError(where="trace", given=f"{len(trace)} requests", rule="all come at once: it has no rate")
    return (len(trace) - 1) / span


def _dealt(trace: Requests, requests_per_s: float, count: int) -> Requests:
    """Every k-th request of the trace, at most `count` from its busiest stretch on, at the rate asked for."""
    stride = max(1, int(trace_rate(trace) / requests_per_s))
    busy = trace.arrival_s[::stride]
    start = 0
    if len(busy) > count:
        start = int(np.argmin(busy[count - 1 :] - busy[: len(busy) - count + 1]))
    kept = np.arange(0, len(trace), stride)[start : start + count]
    times = trace.arrival_s[kept] - trace.arrival_s[kept[0]]
    speed = requests_per_s * stride / trace_rate(trace)
    prefixes = tuple(trace.prefixes[i] for i in kept) if trace.prefixes else ()
    return Requests(times / speed, trace.input_tokens[kept], trace.output_tokens[kept], prefixes, trace.prefix_tokens)


@dataclass(frozen=True, slots=True)
class Space:
    """Which candidates are looked at. Empty tuples: every legal size."""

    precisions: tuple[tuple[str, str], ...]
    """(weights and experts, KV cache) pairs; "checkpoint" and "" for as the checkpoint has it."""
    engines: tuple[str, ...] = ("vllm",)
    modes: tuple[str, ...] = ("aggregated", "separated")
    tp: tuple[int, ...] = ()
    pp: tuple[int, ...] = ()
    dp_attention: tuple[int, ...] = ()
    ep: tuple[int, ...] = ()
    cp: tuple[int, ...] = (1,)
    """Context parallel sizes; more than 1 where the engine has it."""
    tp_across_nodes: bool = False
    """Also tp beyond a node, where none is listed: an all-reduce over the network in every layer."""
    max_sequences: tuple[int, ...] = (512,)
    max_batched_tokens: tuple[int, ...] = (8192,)
    most_replica_gpus: int = 0
    """Largest replica; 0: all GPUs."""


@dataclass(frozen=True, slots=True)
class Question:
    """A plan's question, resolved."""

    name: str
    description: str
    model_name: str
    model: Architecture
    traffic: Traffic
    slo: Slo
    platforms: tuple[Platform, ...]
    objective: Objective
    space: Space
    max_gpus: int
    """Over all platforms and pools."""
    confirm: int = 10
    """Candidates that are simulated at most, and then some whose bound still promises more (see `search`)."""
    router: str = "round_robin"
    """How a fleet's router deals requests: one of `simulator.serving.router.POLICIES`."""
    speculation: Speculation | None = None
    """Tokens that decode replicas draft; None: none."""
    two_batch_overlap: bool = False
    """Layouts with expert parallelism compute one half of a step's batch while the other communicates."""

    @property
    def asked_load(self) -> float | None:
        """Requests a second that the objective is to serve; None: as many as can be."""
        return self.traffic.requests_per_s if self.objective in ("min_gpus", "min_cost") else None
