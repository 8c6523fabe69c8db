"""The best candidates by replicas simulated alone, run as whole fleets until the best of all is one of those."""

from collections.abc import Sequence
from dataclasses import replace

from simulator.planning.execute import Executor
from simulator.planning.fleet import FleetFound, FleetPoint, FleetTask, on_fleet
from simulator.planning.question import Question
from simulator.planning.result import Candidate, Evaluation, LoadPoint
from simulator.planning.sizing import Sized, order_key, pool_of, promises, score_at, sentence

FLEETS = 4
"""Candidates that run as fleets at least, and the best of each kind of hardware."""
SPEND = 10_000
"""Requests: while so many have not been simulated, candidates run whose best case promises more than the winner has."""
WAVE = 2
"""Candidates run together: the same whatever the number of workers."""


def on_fleets(
    question: Question, executor: Executor, simulated: Sequence[Sized]
) -> tuple[dict[str, Sized], dict[str, FleetFound]]:
    """The candidates by id, those that ran as fleets with what those hold; and the runs."""
    left = [s for s in simulated if s.evaluation.status == "confirmed"]
    now = {s.evaluation.candidate.id: s for s in simulated}
    runs: dict[str, FleetFound] = {}
    while wave := _next(question, now, left, runs):
        left = [s for s in left if s not in wave]
        tasks = [FleetTask(question, s.parts, _counts(s), _load(s)) for s in wave]
        for s, found in zip(wave, executor.map(on_fleet, tasks), strict=True):
            name = s.evaluation.candidate.id
            runs[name], now[name] = found, as_fleet(question, s, found)
    return now, runs


def _next(question: Question, now: dict[str, Sized], left: list[Sized], runs: dict[str, FleetFound]) -> list[Sized]:
    """Who runs next: whoever looks better than the best that ran; the first few; then who may still be better."""
    order = sorted(left, key=lambda s: order_key(question, s))
    ran = [now[name] for name in runs if now[name].evaluation.status == "confirmed"]
    best = min(ran, key=lambda s: order_key(question, s)) if ran else None
    if not order:
        return []
    if best is None or len(runs) < FLEETS:
        return order[:WAVE]
    better = [s for s in order if order_key(question, s) < order_key(question, best)]
    tried = {_kind(now[name]) for name in runs}
    others = list({_kind(s): s for s in reversed(order) if _kind(s) not in tried}.values())
    if better or others:
        return (better or others)[:WAVE]
    if sum(found.requests for found in runs.values()) >= SPEND:
        return []
    return [s for s in order if promises(question, s, best)][:WAVE]


def _kind(sized: Sized) -> tuple[int, ...]:
    return tuple(sorted({part.design.platform for part in sized.parts}))


def _counts(sized: Sized) -> tuple[int, ...]:
    return tuple(pool.replicas for pool in sized.evaluation.candidate.pools)


def _load(sized: Sized) -> float:
    score = sized.evaluation.score
    return score.load_requests_per_s if score else 0.0


def as_fleet(question: Question, sized: Sized, found: FleetFound) -> Sized:
    """The candidate with what its fleet holds."""
    evaluation = sized.evaluation
    if found.most <= 0.0:
        missed = replace(evaluation, status="misses", reason=f"as a fleet: {found.reason}")
        return replace(sized, evaluation=missed)
    load = question.asked_load or found.most
    at = point_at(found.points, load)
    pools = tuple(pool_of(question, part, n) for part, n in zip(sized.parts, found.counts, strict=True))
    before = evaluation.score
    kv = (
        before.kv_used_share * min(1.0, at.decode_batch / before.decode_batch)
        if before and before.decode_batch
        else 0.0
    )
    score = score_at(question, "fleet", pools, found.most, load, (at.ttft_s, at.tpot_s, at.e2el_s), at.decode_batch, kv)
    candidate = Candidate(evaluation.candidate.id, pools)
    told = Evaluation(
        candidate, "confirmed", sentence(evaluation.binding, question), evaluation.binding, score, evaluation.steady
    )
    return replace(sized, evaluation=told)


def point_at(points: Sequence[FleetPoint], load: float) -> FleetPoint:
    """The simulated point of the smallest load that is not below this one and holds; else the largest that holds."""
    good = [point for point in points if point.holds]
    return next((point for point in good if point.load >= load * (1 - 1e-9)), good[-1])


def load_points(name: str, found: FleetFound) -> list[LoadPoint]:
    """All simulated loads of a fleet of the size that was found."""
    return [LoadPoint(name, p.load, p.ttft_s, p.tpot_s, p.e2el_s, p.holds) for p in found.points]
