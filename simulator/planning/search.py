"""The search: designs assessed, candidates sized and ranked by steady state, the best simulated, the winner chosen.

Simulation goes on, best estimate first, until no candidate that was not simulated could beat the winner even in its
best case (`Sized.bound`), or `LIMIT` times the asked number was simulated; the result says how many were left. The best
of those then run as whole fleets (`finalists`), and the winner is always one of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from simulator.planning.assess import Assessed, assess, families
from simulator.planning.designs import Refused, designs
from simulator.planning.execute import Executor
from simulator.planning.finalists import load_points, on_fleets
from simulator.planning.fleet import FleetFound
from simulator.planning.question import Question
from simulator.planning.result import Candidate, Evaluation, LoadPoint, Role, Score
from simulator.planning.simulate import Point, share_of, simulate, tasks_for
from simulator.planning.sizing import (
    Sized,
    candidate_id,
    counts_for,
    order_key,
    pairs,
    pool_of,
    promises,
    score_at,
    sentence,
    size,
)

LIMIT = 3
"""Simulations beyond the asked number, as a factor, while a bound still promises more than the winner has."""
WAVE = 10
"""Candidates simulated together: the same whatever the number of workers."""


@dataclass(frozen=True, slots=True)
class Found:
    """Everything the search found."""

    evaluations: tuple[Evaluation, ...]
    """Best first."""
    winner: Sized | None
    sized: tuple[Sized, ...]
    """All candidates with replicas, best first."""
    load_points: tuple[LoadPoint, ...]
    points: dict[Assessed, tuple[Point, ...]]
    assessed: tuple[Assessed, ...]
    unproven: int
    """Candidates never simulated, or as single replicas only, whose best case promises more than the winner."""
    fleets: dict[str, FleetFound]
    """What ran as a fleet, by candidate."""


def find(question: Question, executor: Executor) -> Found:
    """Search the whole space of the question."""
    good, refused = designs(question)
    assessed = tuple(a for found in executor.map(assess, [(question, f) for f in families(good)]) for a in found)
    sized = [size(question, parts) for parts in _parts(question, assessed)]
    order = sorted((s for s in sized if s.evaluation.holds), key=lambda s: order_key(question, s))
    points: dict[Assessed, tuple[Point, ...]] = {}
    done = _confirm(question, executor, order, points)
    done, fleets = on_fleets(question, executor, list(done.values()))
    ranked = [s for s in done.values() if s.evaluation.status == "confirmed"]
    winner = min(ranked, key=lambda s: order_key(question, s)) if ranked else None
    rest = [s for s in order if s.evaluation.candidate.id not in done]
    open_ = rest + [s for s in ranked if s.evaluation.candidate.id not in fleets]
    unproven = sum(promises(question, s, winner) for s in open_) if winner else len(rest)
    everyone = sorted(done.values(), key=lambda s: _order(question, s)) + rest
    everyone += [s for s in sized if not s.evaluation.holds]
    bad = [_never(question, a) for a in assessed if a.status != "scored"]
    bad += [_never(question, _illegal(question, r)) for r in refused]
    evaluations = (*(s.evaluation for s in everyone), *sorted(bad, key=lambda e: (e.status, e.candidate.id)))
    loads = tuple(p for s in done.values() for p in _load_points(s, points, fleets))
    return Found(evaluations, winner, tuple(everyone), loads, points, assessed, unproven, fleets)


def _parts(question: Question, assessed: Sequence[Assessed]) -> list[tuple[Assessed, ...]]:
    alive = [a for a in assessed if a.status == "scored"]
    found: list[tuple[Assessed, ...]] = [(a,) for a in alive if a.role == "mixed"]
    return found + list(pairs(question, alive))


def _illegal(question: Question, refused: Refused) -> Assessed:
    space = question.space
    role: Role = "mixed" if "aggregated" in space.modes else "decode"
    limits = (space.max_sequences[0], space.max_batched_tokens[0])
    return Assessed(refused.design, role, *limits, "illegal", refused.reason, "layout", None)


def _never(question: Question, part: Assessed) -> Evaluation:
    """A part that no candidate could be made of."""
    candidate = Candidate(candidate_id(question, (part,)), (pool_of(question, part, 0),))
    return Evaluation(candidate, part.status, part.reason, part.binding)


def _order(question: Question, sized: Sized) -> tuple[object, ...]:
    if sized.evaluation.status != "confirmed":
        return (1, sized.evaluation.candidate.id)
    return (0, *order_key(question, sized))


def _confirm(
    question: Question, executor: Executor, order: list[Sized], points: dict[Assessed, tuple[Point, ...]]
) -> dict[str, Sized]:
    """Simulates from the best on; candidates by id, as the simulation has them."""
    done: dict[str, Sized] = {}
    left = list(order)
    while left and len(done) < LIMIT * question.confirm:
        ranked = [s for s in done.values() if s.evaluation.status == "confirmed"]
        winner = min(ranked, key=lambda s: order_key(question, s)) if ranked else None
        if winner is not None:
            hopeful = [s for s in left if promises(question, s, winner)]
            if len(done) >= question.confirm and not hopeful:
                break
            left = hopeful + [s for s in left if s not in hopeful]
        most = min(WAVE, question.confirm if not done else LIMIT * question.confirm - len(done))
        wave = left[:most] if done else _first(left, most)
        left = [s for s in left if s not in wave]
        parts = list(dict.fromkeys(part for s in wave for part in s.parts if part not in points))
        tasks = tasks_for(question, parts)
        for task, found in zip(tasks, executor.map(simulate, tasks), strict=True):
            points.update(zip(task.parts, found, strict=True))
        for s in wave:
            done[s.evaluation.candidate.id] = _simulated(question, s, points)
    return done


def _first(order: list[Sized], count: int) -> list[Sized]:
    """The best by estimate, and the best of each kind of hardware and mode, so that kinds are compared as simulated."""
    kinds: dict[tuple[object, ...], Sized] = {}
    for sized in order:
        kinds.setdefault((len(sized.parts), *(part.design.platform for part in sized.parts)), sized)
    alike = [sized for kind, sized in kinds.items() if len(set(kind[1:])) == 1]
    return list(dict.fromkeys([*order[:count], *alike]))


def held(points: tuple[Point, ...]) -> float:
    """The most that held, all below it holding too; 0: none."""
    most = 0.0
    for point in points:
        if not point.holds:
            break
        most = point.load
    return most


def _simulated(question: Question, sized: Sized, points: dict[Assessed, tuple[Point, ...]]) -> Sized:
    """The candidate with the loads that its simulated replicas hold."""
    evaluation = sized.evaluation
    loads = tuple(held(points[part]) for part in sized.parts)
    counts = counts_for(question, sized.parts, loads)
    if counts is None:
        short = min(loads) <= 0.0
        reason = "holds no load in the simulation" if short else "takes more GPUs than there are, as simulated"
        binding = evaluation.binding if short else "gpu_count"
        missed = Evaluation(evaluation.candidate, "misses", reason, binding, evaluation.score, evaluation.steady)
        return replace(sized, evaluation=missed)
    pools = tuple(pool_of(question, part, n) for part, n in zip(sized.parts, counts, strict=True))
    score = _score(question, sized, counts, loads, points)
    binding = evaluation.binding
    candidate = Candidate(evaluation.candidate.id, pools)
    found = Evaluation(candidate, "confirmed", sentence(binding, question), binding, score, evaluation.score)
    return replace(sized, evaluation=found)


def _score(
    question: Question, sized: Sized, counts: tuple[int, ...], loads: tuple[float, ...],
    points: dict[Assessed, tuple[Point, ...]],
) -> Score:  # fmt: skip
    most = min(count * load for count, load in zip(counts, loads, strict=True))
    share = share_of(question, loads[0])
    load = most if share is None else question.asked_load or most
    at = [_nearest(points[part], load / count) for part, count in zip(sized.parts, counts, strict=True)]
    last = at[-1]
    e2el = last.e2el_s if len(at) == 1 else at[0].ttft_s + last.e2el_s
    pools = tuple(pool_of(question, part, n) for part, n in zip(sized.parts, counts, strict=True))
    latencies = (at[0].ttft_s, last.tpot_s, e2el)
    return score_at(question, "simulated", pools, most, load, latencies, last.decode_batch, last.kv_share)


def _nearest(points: tuple[Point, ...], load: float) -> Point:
    """The simulated point of the smallest load that is not below this one and holds; else the largest that holds."""
    good = [p for p in points if p.holds]
    return next((p for p in good if p.load >= load * (1 - 1e-9)), good[-1])


def _load_points(
    sized: Sized, points: dict[Assessed, tuple[Point, ...]], fleets: dict[str, FleetFound]
) -> list[LoadPoint]:
    """All simulated loads of a fleet, or of a candidate of one pool over its replicas."""
    evaluation = sized.evaluation
    if evaluation.candidate.id in fleets:
        return load_points(evaluation.candidate.id, fleets[evaluation.candidate.id])
    if len(sized.parts) > 1 or not evaluation.holds:
        return []
    count = evaluation.candidate.pools[0].replicas
    return [
        LoadPoint(evaluation.candidate.id, p.load * count, p.ttft_s, p.tpot_s, p.e2el_s, p.holds)
        for p in points[sized.parts[0]]
    ]
