"""Why the winner won, what binds it and its neighbours, and what to relax where nothing holds."""

from collections import Counter
from collections.abc import Sequence

from simulator.planning.budget import Phase, step_budget
from simulator.planning.execute import Executor
from simulator.planning.question import Question
from simulator.planning.result import BudgetItem, Constraint, Evaluation, Explanation, Limit, Score, Sensitivity
from simulator.planning.search import Found, held
from simulator.planning.sizing import Sized, rank
from simulator.planning.whatif import sensitivity

ASPECTS = ("platform", "precision", "kv_cache", "engine", "tp", "pp", "dp_attention", "ep")


HOW = {"fleet": "as a fleet", "simulated": "simulated", "steady": "by steady state"}


def explanations(question: Question, found: Found, executor: Executor) -> tuple[Explanation, ...]:
    """The winner's, then the best candidate that differs from it in one aspect only, for each aspect."""
    winner = found.winner
    if winner is None:
        return ()
    told = [(winner, _winner_text(found))]
    told += [(o, _neighbour_text(question, winner, o, what)) for what, o in neighbours(found.sized, winner)]
    moved = iter(sensitivity(question, [(s, simulated(found, s)) for s, _ in told if s.evaluation.holds], executor))
    return tuple(
        _explained(question, sized, text, next(moved) if sized.evaluation.holds else ()) for sized, text in told
    )


def simulated(found: Found, sized: Sized) -> tuple[float, ...]:
    """The most that a replica of each part held, in the same proportion as their fleet; by steady state where it was
    not simulated."""
    score = sized.evaluation.score
    assert score is not None
    loads = [held(found.points[part]) if part in found.points else 0.0 for part in sized.parts]
    if min(loads) <= 0.0 or sized.evaluation.status != "confirmed":
        loads = [part.curve.held if part.curve else 0.0 for part in sized.parts]
    pools = sized.evaluation.candidate.pools
    alone = min(load * pool.replicas for load, pool in zip(loads, pools, strict=True))
    return tuple(load * score.load_requests_per_s / alone for load in loads)


def neighbours(sized: Sequence[Sized], winner: Sized) -> list[tuple[str, Sized]]:
    """(what differs, candidate), the best of each kind of difference; serving the other way, and all pools on another
    GPU, count as one."""
    found: dict[str, Sized] = {}
    own = {pool.platform for pool in winner.evaluation.candidate.pools}
    for other in sized:
        there = {pool.platform for pool in other.evaluation.candidate.pools}
        if len(there) == 1 and not there & own and other.evaluation.holds:
            found.setdefault(f"hardware ({there.pop()})", other)
    for other in sized:
        if other is winner or other.evaluation.candidate.id == winner.evaluation.candidate.id:
            continue
        differs = difference(winner, other)
        if differs and (differs not in found or (other.evaluation.holds and not found[differs].evaluation.holds)):
            found[differs] = other
    return list(found.items())


def difference(one: Sized, other: Sized) -> str:
    """The single aspect in which two candidates differ; "" for none or several."""
    if len(one.parts) != len(other.parts):
        return "mode"
    aspects = set()
    for a, b in zip(one.parts, other.parts, strict=True):
        for name in ASPECTS:
            left, right = (getattr(p.design, name, getattr(p.design.layout, name, None)) for p in (a, b))
            if left != right:
                aspects.add(f"{a.role} {name}" if len(one.parts) > 1 else name)
        if (a.max_sequences, a.max_batched_tokens) != (b.max_sequences, b.max_batched_tokens):
            aspects.add("batch limits")
    return aspects.pop() if len(aspects) == 1 else ""


def limits(question: Question, score: Score) -> tuple[Limit, ...]:
    """Each limit beside what is reached."""
    slo = question.slo
    rows: list[tuple[Constraint, float | None, float | None]] = [
        ("ttft", score.ttft_s, slo.ttft_s), ("tpot", score.tpot_s, slo.tpot_s), ("e2el", score.e2el_s, slo.e2el_s),
        ("kv_memory", score.kv_used_share, 1.0), ("gpu_count", float(score.gpus), float(question.max_gpus)),
    ]  # fmt: skip
    return tuple(
        Limit(name, value, limit, value / limit) for name, value, limit in rows if value is not None and limit
    )  # fmt: skip


def budgets(question: Question, sized: Sized) -> tuple[BudgetItem, ...]:
    """Of every pool's steps at the load that the score tells."""
    score = sized.evaluation.score
    found: list[BudgetItem] = []
    for index, part in enumerate(sized.parts):
        layout = part.design.layout
        lanes = layout.dp_attention * layout.pp
        batch = round((score.decode_batch if score else 1.0) / lanes)
        phases: tuple[Phase, ...] = ("prefill", "decode") if part.role == "mixed" else (
            ("prefill",) if part.role == "prefill" else ("decode",)
        )  # fmt: skip
        for phase in phases:
            found += step_budget(question, part.design, index, phase, max(1, batch))
    return tuple(found)


def _explained(question: Question, sized: Sized, text: str, moved: tuple[Sensitivity, ...]) -> Explanation:
    evaluation = sized.evaluation
    reached = limits(question, evaluation.score) if evaluation.score else ()
    budget = budgets(question, sized) if evaluation.holds else ()
    return Explanation(evaluation.candidate.id, text, evaluation.binding, reached, budget, moved)


def _winner_text(found: Found) -> str:
    winner = found.winner
    assert winner is not None
    assert winner.evaluation.score is not None
    score = winner.evaluation.score
    looked = sum(e.status == "confirmed" for e in found.evaluations)
    cost = f" at ${score.usd_per_million_tokens:.3g} per million output tokens" if score.usd_per_million_tokens else ""
    return (
        f"{score.gpus} GPUs hold {score.load_requests_per_s:.3g} requests/s{cost}, the best of {looked} simulated "
        f"and {len(found.evaluations)} candidates; {winner.evaluation.reason}."
    )


def _neighbour_text(question: Question, winner: Sized, other: Sized, aspect: str) -> str:
    evaluation = other.evaluation
    if evaluation.score is None or not evaluation.holds:
        return f"Differs in {aspect}: {evaluation.reason}."
    assert winner.evaluation.score is not None
    mine, best = rank(question, evaluation.score)[0], rank(question, winner.evaluation.score)[0]
    what = {"min_gpus": "GPUs", "max_load": "load", "min_cost": "cost", "pareto": "load per GPU"}[question.objective]
    worse = abs(mine / best - 1.0) if best else 0.0
    told = f"{worse:.0%} {'less' if best < 0 else 'more'} {what}" if mine > best else f"as good in {what}"
    how = HOW[evaluation.score.method]
    return f"Differs in {aspect}: {told} ({how}); {evaluation.reason}."


def binding_of(evaluations: Sequence[Evaluation]) -> Constraint | None:
    """What stopped the candidates that came farthest: too few GPUs, else the limit most of them missed."""
    for statuses in (("misses",), ("bound",), ("no_memory",), ("illegal",)):
        stopped = Counter(e.binding for e in evaluations if e.status in statuses)
        if stopped:
            return min(stopped, key=lambda name: (name != "gpu_count", -stopped[name], name))
    return None


def relax(question: Question, found: Found) -> tuple[str, ...]:
    """What to give up where nothing holds, the least first."""
    advice: list[str] = []
    short = [e for e in found.evaluations if e.status == "misses" and e.binding == "gpu_count"]
    if short:
        best = min(short, key=lambda e: (len(e.reason), e.reason))
        advice.append(f"more GPUs, or less load: {best.candidate.id}: {best.reason}")
    slo = question.slo
    curves = [a.curve for a in found.assessed if a.curve is not None and a.role == "mixed"]
    missed = Counter(a.binding for a in found.assessed if a.status in ("bound", "misses"))
    if missed["tpot"] and slo.tpot_s is not None:
        best_s = min([a.best_s for a in found.assessed if a.binding == "tpot" and a.best_s], default=0.0)
        best_s = best_s or min((c.best_tpot_s for c in curves), default=slo.tpot_s)
        advice.append(f"a TPOT limit of {max(best_s, slo.tpot_s) * 1.1e3:.3g} ms or more, or faster memory")
    if missed["ttft"] and slo.ttft_s is not None:
        best_s = min([a.best_s for a in found.assessed if a.binding == "ttft" and a.best_s], default=0.0)
        best_s = best_s or min((c.best_ttft_s for c in curves), default=slo.ttft_s)
        advice.append(f"a TTFT limit of {max(best_s, slo.ttft_s) * 1.1:.3g} s or more, or shorter prompts")
    if missed["e2el"] and slo.e2el_s is not None:
        advice.append(f"an E2EL limit above {slo.e2el_s:g} s, or shorter answers")
    memory = [e for e in found.evaluations if e.status == "no_memory"]
    if memory and not curves:
        advice.append("more GPUs a replica, a smaller storage type (fp8, nvfp4, int4) or GPUs with more memory")
    if not advice and found.evaluations:
        advice.append(f"the space: {found.evaluations[0].reason}")
    return tuple(advice)
