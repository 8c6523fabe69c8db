"""One replica in its steady state: which load it holds within the limits, from its step times alone.

A replica is `lanes` batchers (attention ranks times pipeline stages). With n sequences decoding in each, and o tokens
an answer, a = n / (o - 1) prompts join a lane per step, so a token takes

    T(n) = d(n) + s g(a)        g(a) = max(1 - exp(-dpa a), a)

d(n) the decode step, s what a prompt adds; attention ranks that step together share prompt steps until each has one.
The load is lanes n / ((o - 1) T(n)) (Little). Prompts queue for their lane: M/D/1 with the exponential tail of its
heavy traffic (Kleinrock 1976, section 2.1: P(W > t) = r exp(-2 (1 - r) t / s)). Sequences come and go at random, so
the limits are asked at n + z sqrt(n), z the percentile's normal quantile. The simulation has the last word; what is
here ranks, and `best_load` bounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from simulator.planning.piped import Steps
from simulator.planning.question import Question
from simulator.planning.result import Constraint, Role

Array = NDArray[np.float64]
POINTS = 72
LIFETIME = 0.7
"""A request's TPOT averages the batch over its life: of the batch's spread, sqrt(1/2) is left where batch and request
change as fast as each other (an exponential correlation averaged over its own time constant)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What bounds one lane."""

    max_sequences: int
    max_batched_tokens: int
    kv_tokens: float
    """Tokens that the lane's KV memory holds."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What one replica does from little load to the most that its memory allows, in order of load."""

    load: tuple[float, ...]
    """Requests a second."""
    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]
    e2el_s: tuple[float, ...]
    decode_batch: tuple[float, ...]
    """Sequences decoding on the replica."""
    kv_share: tuple[float, ...]
    held: float
    """The most that holds within the limits; 0: none."""
    best_load: float
    """No load above this can hold, whatever the luck: without queues, spread, or prompts that come alone."""
    binding: Constraint
    best_ttft_s: float
    """Of one request on an idle replica."""
    best_tpot_s: float

    def at(self, load: float) -> tuple[float, float, float, float, float]:
        """(TTFT, TPOT, E2EL, decoding sequences, part of the KV memory) at a load, linear between points."""
        columns = (self.ttft_s, self.tpot_s, self.e2el_s, self.decode_batch, self.kv_share)
        ttft, tpot, e2el, batch, kv = (float(np.interp(load, self.load, column)) for column in columns)
        return ttft, tpot, e2el, batch, kv


@dataclass(frozen=True, slots=True)
class Replica:
    """A design with its lanes and step times."""

    table: Steps
    lanes: int
    attention: int
    """Lanes that step together (dp_attention)."""
    stages: int
    mixed: bool
    """Prompt chunks share steps with decodes (engine policy)."""
    chunked: bool
    batch: Batch
    comm_share: float = 0.0
    """Part of a decode step that is communication."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What prompts cost a lane."""

    own_s: float
    """A prompt alone on an idle lane, from its first step to its token."""
    added_s: float
    """What one adds to the steps it shares with others, steps filled."""
    service_s: float
    """How far apart a busy lane finishes them."""


def prompt_costs(replica: Replica, question: Question, decodes: float) -> Prompt:
    """Costs of a mean prompt beside `decodes` on its lane."""
    tokens, budget = round(question.traffic.mean_input), replica.batch.max_batched_tokens
    n = round(decodes)
    beside = n if replica.mixed else 0
    length = _context(question)
    plain = float(replica.table.step_time_s(0, 0, n, round(n * length))) if n else 0.0
    carried = plain if replica.mixed else 0.0

    shared = question.traffic.shared_tokens
    tokens -= shared

    def step(new: int, past: int, prompts: int = 1) -> float:
        load = (new, past + prompts * shared, beside, round(beside * length))
        return float(replica.table.step_time_s(*load, prefill_sequences=prompts))

    room = max(64, budget - beside) if replica.chunked else budget
    chunks = [(min(room, tokens - at), at) for at in range(0, tokens, room)]
    alone = [step(new, past) for new, past in chunks]
    own = sum(alone)
    added = own - carried * len(chunks)
    together = room // tokens
    if together > 1:
        filled = step(together * tokens, 0, together)
        added = min(added, (filled - carried) / together)
        return Prompt(own, added, filled / together)
    return Prompt(own, max(added, 0.0), own)


def _context(question: Question) -> float:
    """Mean tokens cached by a decoding sequence."""
    return question.traffic.mean_input + question.traffic.mean_output / 2


def quantile(question: Question) -> float:
    """The normal quantile of the plan's percentile, wider for bursts."""
    z = NormalDist().inv_cdf(min(question.slo.percentile, 99.9) / 100.0)
    return max(0.0, z) / sqrt(min(1.0, question.traffic.burstiness))


def prefill_curve(replica: Replica, question: Question, transfer_s: float) -> Curve:
    """A replica that only prefills; its KV then moves for `transfer_s` before the first token counts."""
    cost = prompt_costs(replica, question, 0)
    capacity = replica.lanes / cost.service_s
    busy = np.linspace(0.02, 0.98, 49)
    # A prompt enters a pipeline as soon as the one before has left its first stage.
    ttft = _wait(busy, cost.service_s / replica.stages, _tail(question)) + cost.own_s + transfer_s
    limit = _first(question.slo.ttft_s, question.slo.e2el_s)
    fits = np.flatnonzero(ttft <= limit)
    best_ttft = cost.own_s + transfer_s
    zeros = (0.0,) * len(busy)
    return Curve(
        tuple((busy * capacity).tolist()), tuple(ttft.tolist()), zeros, tuple(ttft.tolist()), zeros, zeros,
        float(busy[fits[-1]] * capacity) if len(fits) else 0.0, capacity if best_ttft <= limit else 0.0,
        "compute" if len(fits) == len(busy) else "ttft", best_ttft, 0.0,
    )  # fmt: skip


def _tail(question: Question) -> Callable[[Array], Array]:
    """log(r / (1 - p)), how many decay lengths the percentile lies out, from the utilisation r."""
    beyond = max(1.0 - question.slo.percentile / 100.0, 1e-3)

    def of(busy: Array) -> Array:
        return np.asarray(
            np.maximum(0.0, np.log(np.maximum(busy, 1e-12) / beyond)) / min(1.0, question.traffic.burstiness)
        )

    return of


def _wait(busy: Array, service_s: Array | float, tail: Callable[[Array], Array]) -> Array:
    return np.asarray(np.where(busy < 1.0, tail(busy) * service_s / (2.0 * np.maximum(1.0 - busy, 1e-9)), np.inf))


def _first(*limits: float | None) -> float:
    return min((limit for limit in limits if limit is not None), default=float("inf"))


def serving_curve(replica: Replica, question: Question, role: Role, front_s: float = 0.0) -> Curve:
    """A replica of prompts and answers ("mixed"), or of answers alone ("decode"); `front_s` before its scheduler."""
    slo, batch = question.slo, replica.batch
    steps, z = max(question.traffic.mean_output - 1.0, 1.0), quantile(question)
    per_request = tokens_held(replica, question)
    most = min(float(batch.max_sequences), batch.kv_tokens / per_request)
    n = np.geomspace(min(0.02, most / 2), most, POINTS)
    prompt = _Prompts(replica, question, n) if role == "mixed" else None
    added = prompt.of("added_s") if prompt else np.zeros(POINTS)

    def token_s(at: Array, *, alone: bool) -> Array:
        joins = at / steps
        shared = np.maximum(1.0 - np.exp(-replica.attention * joins), joins) if alone else joins
        return _decode_s(replica, question, np.maximum(at, 1.0)) + added * shared

    mean_s, best_s = token_s(n, alone=True), token_s(n, alone=False)
    tpot = token_s(np.minimum(n + z * LIFETIME * np.sqrt(n), batch.max_sequences), alone=True)
    loads = np.maximum.accumulate(replica.lanes * n / steps / mean_s)
    busy, ttft = np.zeros(POINTS), mean_s
    if prompt:
        own, service = prompt.of("own_s"), prompt.of("service_s")
        busy = loads / replica.lanes * service
        ttft = _wait(busy, service / replica.stages, _tail(question)) + own + mean_s + front_s
    e2el = ttft + steps * tpot
    checks: dict[Constraint, NDArray[np.bool_]] = {
        "tpot": tpot <= _first(slo.tpot_s), "ttft": (ttft <= _first(slo.ttft_s)) & (busy < 1.0),
        "e2el": e2el <= _first(slo.e2el_s),
        # Pages and slots for the sequences that are there at the percentile, or prompts wait for them.
        "kv_memory": (n + z * np.sqrt(n)) * per_request <= batch.kv_tokens,
        "batch": n + z * np.sqrt(n) <= batch.max_sequences,
    }  # fmt: skip
    fits = np.logical_and.reduce(list(checks.values()))
    at = int(np.flatnonzero(fits)[-1]) if fits.any() else 0
    best_ttft = float(prompt.of("own_s")[0]) + front_s if prompt else 0.0
    best = replica.lanes * n / steps / best_s
    best_fits = best_s <= _first(slo.tpot_s, None if slo.e2el_s is None else slo.e2el_s / steps)
    if best_ttft > _first(slo.ttft_s, slo.e2el_s):
        best_fits = np.zeros(POINTS, dtype=bool)
    kept = slice(None, None, 3)
    columns = (loads, ttft, tpot, e2el, n * replica.lanes, n * per_request / batch.kv_tokens)
    load, ttfts, tpots, e2els, batches, shares = (tuple(column[kept].tolist()) for column in columns)
    return Curve(
        load, ttfts, tpots, e2els, batches, shares, float(loads[at]) if fits.any() else 0.0,
        float(np.max(best, where=best_fits, initial=0.0)), _binding(checks, at, bool(fits.any()), replica),
        best_ttft, float(best_s[0]),
    )  # fmt: skip


def tokens_held(replica: Replica, question: Question) -> float:
    """KV tokens of a mean request over its life: pages come with the tokens, or all at once; shared ones are no
    request's own."""
    own = question.traffic.mean_input - question.traffic.shared_tokens
    return own + question.traffic.mean_output * (0.5 if replica.chunked else 1.0)


class _Prompts:
    """Costs of a prompt beside few, some and most decodes; between them, linear."""

    def __init__(self, replica: Replica, question: Question, n: Array) -> None:
        self._n, self._at = n, n[[0, POINTS // 2, 3 * POINTS // 4, -1]]
        self._known = [prompt_costs(replica, question, float(at)) for at in self._at]

    def of(self, name: str) -> Array:
        return np.asarray(np.interp(self._n, self._at, [getattr(cost, name) for cost in self._known]))


def _binding(checks: dict[Constraint, NDArray[np.bool_]], at: int, any_fits: bool, replica: Replica) -> Constraint:
    """The check that fails next as the load grows; communication, where most of the step is that."""
    later = min(at + 1, POINTS - 1)
    failed = [name for name, good in checks.items() if not good[at if not any_fits else later]]
    found: Constraint = failed[0] if failed else "compute"
    return "link" if found in ("tpot", "ttft") and replica.comm_share > 0.5 else found


def _decode_s(replica: Replica, question: Question, sequences: Array) -> Array:
    """A token of so many sequences a lane: a decode step over the tokens it brings; between whole numbers, linear."""
    draft = question.speculation
    low = np.floor(sequences)
    length = _context(question)
    at_low = replica.table.step_times_s(0, 0, low.astype(int), np.round(low * length).astype(int))
    high = low + 1.0
    at_high = replica.table.step_times_s(0, 0, high.astype(int), np.round(high * length).astype(int))
    step_s = at_low + (sequences - low) * (at_high - at_low)
    return np.asarray(step_s / (draft.tokens_per_step if draft else 1.0))
