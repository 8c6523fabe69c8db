"""A candidate's replicas under the real traffic: the load they hold, found by bisection. A task of the search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from simulator.cost.table import StepTable
from simulator.cost.table.direct import DirectPricer
from simulator.engine.replica import Served, serve
from simulator.engine.server import Server, kv_memory_bytes, memory_for
from simulator.errors import ShardsimError
from simulator.planning.assess import Assessed, front_s, overlapped, skew_of
from simulator.planning.coarse import REPLAY, coarse_table
from simulator.planning.designs import Design, alone, setup_of
from simulator.planning.handover import transfer_s
from simulator.planning.piped import Piped, piped
from simulator.planning.question import Question
from simulator.planning.sizing import LUCK
from simulator.serving.batcher import Batcher
from simulator.serving.blocks import KvBlocks
from simulator.serving.policy import Policy, find_policy
from simulator.serving.prefix import PrefixCache
from simulator.workload import Requests

Floats = NDArray[np.float64]
RESOLUTION = 0.03
"""Bisection on rate ends when the bracket is this narrow, in relative terms."""
FEWEST, MOST = 200, 2500
"""Requests of one simulation: about `LIVES` times those that run at a time, within these."""
LIVES = 2.5
WARM = 1.0
"""Lives that pass before requests are counted: the replica starts empty."""
LANES = 8
"""Attention ranks that are simulated at most, with their share of the load: 80 alike step together as 8 do, but for
the largest batch among them, which is then 5 to 10 % smaller than it would be (the spread of the largest of n)."""
BEHIND = 0.05
"""A load holds only if, when the last request comes, no more than this part of all still waits for a first token."""


@dataclass(frozen=True, slots=True)
class Point:
    """One simulated load of one replica."""

    load: float
    """Requests a second."""
    ttft_s: float
    tpot_s: float
    e2el_s: float
    holds: bool
    behind: bool
    """Requests pile up."""
    decode_batch: float
    kv_share: float


@dataclass(frozen=True, slots=True)
class Task:
    """Find the most that each part's replica holds; and what it does where replicas share the load that is asked.

    The parts differ in pp, role and batch limits at most: one step-time table serves all.
    """

    question: Question
    parts: tuple[Assessed, ...]


def tasks_for(question: Question, parts: Sequence[Assessed]) -> list[Task]:
    """Parts that share a table together, the longest tasks first."""
    found: dict[Design, list[Assessed]] = {}
    for part in parts:
        found.setdefault(alone(part.design), []).append(part)
    return sorted((Task(question, tuple(p)) for p in found.values()), key=lambda task: -len(task.parts))


def simulate(task: Task) -> tuple[tuple[Point, ...], ...]:
    """Simulated points of each part in order of load; none where the replica cannot serve these requests at all."""
    try:
        table = replay_table(task)
    except ShardsimError:
        return ((),) * len(task.parts)
    return tuple(_simulated(task.question, part, table) for part in task.parts)


def _simulated(question: Question, part: Assessed, table: StepTable) -> tuple[Point, ...]:
    try:
        return Replays(question, part, table).bisect()
    except ShardsimError:
        return ()


def replay_table(task: Task) -> StepTable:
    """Step times of the parts' cut without a pipeline, as far as any of them reaches."""
    traffic = task.question.traffic
    setup = setup_of(task.question, alone(task.parts[0].design))
    longest = traffic.input_tokens + traffic.output_tokens
    sequences = max(
        min(part.max_sequences, max(16, int(part.kv_tokens / max(1.0, traffic.mean_input)) + 1)) for part in task.parts
    )
    budget = max(part.max_batched_tokens for part in task.parts)
    return coarse_table(
        DirectPricer(setup), tokens=budget, sequences=sequences, context=longest, skew=skew_of(setup), grain=REPLAY,
        overlap=overlapped(task.question, setup), speculation=task.question.speculation,
    )  # fmt: skip


class Ring:
    """Step times of a pipeline as one batcher sees them: its decodes are dealt to the micro-batches, and a prompt holds
    up all of them for the time of one stage only."""

    def __init__(self, table: Piped, stages: int) -> None:
        self._table, self._stages = table, stages

    def step_time_s(
        self, prefill_tokens: int, prefill_context: int, decode_sequences: int, decode_kv_tokens: int,
        *, prefill_sequences: int = 1,
    ) -> float:  # fmt: skip
        """Seconds of a turn of the ring; with prompts, the decodes' own and a stage's part of what the prompts add."""
        stages = self._stages
        decodes, kv_tokens = -(-decode_sequences // stages), -(-decode_kv_tokens // stages)
        whole = self._table.step_time_s(
            prefill_tokens, prefill_context, decodes, kv_tokens, prefill_sequences=prefill_sequences
        )
        if stages == 1 or not prefill_tokens:
            return whole
        plain = self._table.step_time_s(0, 0, decodes, kv_tokens) if decodes else 0.0
        return plain + max(0.0, whole - plain) / stages


class DecodeOnly:
    """Step times of a replica whose prompts were computed elsewhere: their KV comes, and costs no step."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def step_time_s(
        self, prefill_tokens: int, prefill_context: int, decode_sequences: int, decode_kv_tokens: int,
        *, prefill_sequences: int = 1,
    ) -> float:  # fmt: skip
        """Seconds of the decodes alone; an arriving sequence joins the next step."""
        del prefill_tokens, prefill_context, prefill_sequences  # not computed here
        return self._ring.step_time_s(0, 0, decode_sequences, decode_kv_tokens) if decode_sequences else 1e-6


class Replays:
    """One replica, and its runs."""

    def __init__(self, question: Question, part: Assessed, table: StepTable) -> None:
        self._question, self._part = question, part
        design, traffic = part.design, question.traffic
        setup, platform = setup_of(question, design), question.platforms[design.platform]
        self._setup, self._policy = setup, policy_of(question, part)
        self._table = piped(table, platform, design.layout)
        longest = traffic.input_tokens + traffic.output_tokens
        self._memory = memory_for(Server(setup, table, kv_memory_bytes(setup)), self._policy, longest)
        self._attention = min(LANES, design.layout.dp_attention)
        self._fold = design.layout.dp_attention / self._attention
        self._extra_s = last_stages_s(self._table, question, part) + front_s(question)
        if part.role == "prefill":
            self._extra_s += transfer_s(setup, platform, design.engine, round(traffic.mean_input))

    def bisect(self) -> tuple[Point, ...]:
        """From the steady state's guess outwards by growing steps, then halving the bracket; then the load of each
        replica where as few as hold it share what is asked."""
        points: dict[float, Point] = {}

        def holds(load: float) -> bool:
            points[load] = self.point(load)
            return points[load].holds

        curve = self._part.curve
        if curve is None:
            return ()
        top = curve.best_load * (1.0 + LUCK)
        most = search(holds, min(curve.held or 0.5 * top, top), RESOLUTION, top)
        share = share_of(self._question, most)
        if share is not None:
            holds(share)
        return tuple(points[load] for load in sorted(points))

    def point(self, load: float) -> Point:
        """One simulation at this load."""
        curve = self._part.curve
        batch = 0.0
        if curve is not None:
            _, _, e2el, batch, _ = curve.at(min(load, curve.load[-1]))
            batch = max(batch, load * e2el) / self._fold
        count = int(min(MOST, max(FEWEST, LIVES * batch)))
        served, ttft, tpot = self.run(load, count)
        first = min(int(WARM * batch), len(served.arrival_s) // 2)
        return self._told(load, served, ttft[first:], tpot[first:])

    def run(self, load: float, count: int) -> tuple[Served, Floats, Floats]:
        """(what was served, TTFT, TPOT) of about `count` requests at this load, in seconds."""
        served = self._serve(self._question.traffic.requests(load / self._fold, count))
        ttft = served.first_token_s - served.arrival_s + self._extra_s
        # The token that came with a prompt's KV is out: what a sequence waits for pages is between its tokens.
        since = served.arrival_s if self._part.role == "decode" else served.first_token_s
        return served, ttft, (served.finish_s - since) / np.maximum(served.output_tokens - 1, 1)

    def _serve(self, requests: Requests) -> Served:
        layout, memory = self._setup.layout, self._memory
        policy, ring = self._policy, Ring(self._table, layout.pp)
        if self._part.role == "prefill":
            requests = Requests(
                requests.arrival_s, requests.input_tokens, np.ones_like(requests.output_tokens), requests.prefixes,
                requests.prefix_tokens,
            )  # fmt: skip
        shared = requests.prefix_tokens if requests.prefixes else 0

        def lanes(policy: Policy) -> list[Batcher]:
            return [
                Batcher(policy, KvBlocks(memory.capacity, memory.block_tokens, PrefixCache(shared) if shared else None))
                for _ in range(self._attention)
            ]

        if self._part.role == "decode":
            free = replace(policy, mixed=True, chunked=True, max_batched_tokens=1 << 30, reserve="prompt")
            return serve(requests, lanes(free), DecodeOnly(ring))
        return serve(requests, lanes(policy), ring)

    def _told(self, load: float, served: Served, ttft: Floats, tpot: Floats) -> Point:
        """The point; `ttft` and `tpot` are those that count, the last of all."""
        slo, role, stages = self._question.slo, self._part.role, self._setup.layout.pp
        e2el = ttft + tpot * (served.output_tokens[-len(ttft) :] - 1)
        last = float(served.arrival_s[-1])
        waiting = int((served.first_token_s > last).sum())
        lanes = self._attention * stages
        behind = waiting > BEHIND * len(served.arrival_s) + 2 * lanes
        values = [float(np.percentile(column, slo.percentile)) for column in (ttft, tpot, e2el)]
        limits = (slo.ttft_s, slo.tpot_s, slo.e2el_s)
        asked = {"mixed": (True, True, True), "prefill": (True, False, True), "decode": (False, True, True)}[role]
        good = all(
            limit is None or not mine or value <= limit
            for value, limit, mine in zip(values, limits, asked, strict=True)
        )
        span = max(float(served.finish_s.max()), 1e-9)
        running = float((served.finish_s - served.first_token_s).sum()) / span * self._fold
        pages = max((step[7] for step in served.steps), default=0) / self._memory.capacity
        return Point(load, values[0], values[1], values[2], good and not behind, behind, running, pages)


def policy_of(question: Question, part: Assessed) -> Policy:
    """The engine's scheduler with the part's batch limits; a pipeline's batcher holds all micro-batches."""
    draft = question.speculation if part.role != "prefill" else None
    return replace(
        find_policy(part.design.engine), max_sequences=part.max_sequences * part.design.layout.pp,
        max_batched_tokens=part.max_batched_tokens, draft_tokens=draft.tokens if draft else 0,
        tokens_per_step=draft.tokens_per_step if draft else 1.0,
    )  # fmt: skip


def last_stages_s(table: Piped, question: Question, part: Assessed) -> float:
    """A prompt passes all stages; `Ring` counted one stage's part of it."""
    stages = part.design.layout.pp
    if stages == 1:
        return 0.0
    tokens, budget = round(question.traffic.mean_input), part.max_batched_tokens
    whole = sum(table.step_time_s(min(budget, tokens - at), at, 0, 0) for at in range(0, tokens, budget))
    return whole * (1.0 - 1.0 / stages)


def share_of(question: Question, most: float) -> float | None:
    """Load of one replica where as few as hold it, each at most `most`, share the asked load; None: none is asked."""
    asked = question.asked_load
    if asked is None or most <= 0.0:
        return None
    return asked / max(1, ceil(asked / most - 1e-9))


def search(holds: Callable[[float], bool], guess: float, resolution: float, top: float = inf) -> float:
    """The largest load up to `top` that holds, where all below one that holds do too; 0 where a thousandth of the guess
    does not.

    Steps of 4 %, each half as long again, away from the guess until it is bracketed; then halves the bracket.
    """
    step, low, high, at = 0.04, 0.0, inf, guess
    while high == inf or low == 0.0:
        if holds(at):
            low = at
            if at >= top:
                return at
            at = min(at * (1.0 + step), top)
        else:
            high = at
            at /= 1.0 + step
            if at < guess * 1e-3:
                return 0.0
        step *= 1.5
    while high / low > 1.0 + resolution:
        at = (low * high) ** 0.5
        if holds(at):
            low = at
        else:
            high = at
    return low
