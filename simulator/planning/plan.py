"""A plan: the question answered, explained, and told with its confidence."""

from dataclasses import replace
from math import isclose
from time import perf_counter

from simulator.planning.confidence import confidence_of
from simulator.planning.execute import Executor
from simulator.planning.explain import binding_of, explanations, relax
from simulator.planning.fleet import FleetTask
from simulator.planning.pareto import fronts
from simulator.planning.question import Question, Traffic, trace_rate
from simulator.planning.result import Asked, PlanResult, Price, TrafficPoint
from simulator.planning.search import Found, find
from simulator.planning.timeline import timeline


def plan(question: Question, executor: Executor) -> PlanResult:
    """The answer to a question. Raises nothing where nothing fits: then there is no winner, and `relax` says why."""
    start = perf_counter()
    found = find(question, executor)
    told = explanations(question, found, executor)
    winner = found.winner
    evaluation = winner.evaluation if winner else None
    confidence = confidence_of(question, evaluation, told[0].budget) if evaluation else None
    return PlanResult(
        name=question.name,
        description=question.description,
        asked=asked(question),
        winner=evaluation,
        evaluations=found.evaluations,
        pareto=fronts(found.evaluations),
        explanations=tuple(replace(each, sensitivity=()) if not i else each for i, each in enumerate(told)),
        sensitivity=told[0].sensitivity if told else (),
        confidence=confidence,
        binding=evaluation.binding if evaluation else binding_of(found.evaluations),
        relax=() if winner else relax(question, found),
        load_points=found.load_points,
        traffic=_traffic(question, found, executor),
        notes=_notes(question, found),
        elapsed_s=perf_counter() - start,
    )


def asked(question: Question) -> Asked:
    """The question as the result tells it."""
    traffic = question.traffic
    return Asked(
        question.model_name, question.objective, question.slo, traffic_text(question), traffic.requests_per_s,
        traffic.mean_input, traffic.mean_output, traffic.input_tokens, traffic.output_tokens, question.max_gpus,
        tuple(
            Price(p.name, p.usd_per_gpu_hour, p.price_source)
            for p in question.platforms
            if p.usd_per_gpu_hour is not None
        ),
        traffic.trace_path, _trace_speed(traffic), traffic.shared_tokens, *_drafts(question),
        question.two_batch_overlap,
    )  # fmt: skip


def _drafts(question: Question) -> tuple[int, bool]:
    """(tokens drafted, whether by one layer of the model itself: what `draft_share` is then, left out or given)."""
    draft = question.speculation
    if draft is None:
        return 0, True
    return draft.tokens, isclose(draft.draft_share * len(question.model.layers), 1.0)


def _trace_speed(traffic: Traffic) -> float:
    if traffic.trace is None or traffic.requests_per_s is None:
        return 1.0
    return traffic.requests_per_s / trace_rate(traffic.trace)


def traffic_text(question: Question) -> str:
    """Traffic in words."""
    traffic = question.traffic
    lengths = f"{traffic.mean_input:,.0f} tokens in, {traffic.mean_output:,.0f} out"
    if traffic.trace is not None:
        rate = "" if traffic.requests_per_s is None else f", at {traffic.requests_per_s:g} requests/s"
        return f"a trace of {len(traffic.trace):,} requests{rate}; on average {lengths}"
    kind = "Poisson" if traffic.burstiness == 1.0 else f"Gamma of shape {traffic.burstiness:g}"
    rate = "as many requests as can be" if traffic.requests_per_s is None else f"{traffic.requests_per_s:g} requests/s"
    cached = f"; {traffic.cached_share:.0%} of each prompt in common" if traffic.cached_share else ""
    spread = "" if traffic.range_ratio == 1.0 else f", lengths from {traffic.range_ratio:.0%} of the longest"
    return f"{rate}, {kind}; {lengths}{spread}{cached}"


def _traffic(question: Question, found: Found, executor: Executor) -> tuple[TrafficPoint, ...]:
    winner = found.winner
    if winner is None or winner.evaluation.score is None:
        return ()
    pools, score = winner.evaluation.candidate.pools, winner.evaluation.score
    load = score.asked_requests_per_s or score.load_requests_per_s
    counts = tuple(pool.replicas for pool in pools)
    (run,) = executor.map(timeline, [FleetTask(question, winner.parts, counts, load)])
    return run


def _notes(question: Question, found: Found) -> tuple[str, ...]:
    simulated = sum(e.status == "confirmed" for e in found.evaluations)
    notes = [
        f"{simulated} candidates hold as simulated, {len(found.fleets)} ran as whole fleets behind "
        f"a {question.router.replace('_', ' ')} router; of the others one replica of each pool with its share."
    ]
    if not question.space.tp and not question.space.tp_across_nodes:
        notes.append("Tensor parallelism stays inside a node; sizes are powers of two.")
    if question.speculation and not _drafts(question)[1]:
        notes.append("The commands read the draft model from $DRAFT_MODEL: set it to the one whose speed was given.")
    if question.traffic.shared_tokens:
        tokens = question.traffic.shared_tokens
        notes.append(f"Of a mean prompt {tokens:,} tokens are found in the prefix cache.")
    if found.unproven and found.winner:
        notes.append(f"{found.unproven} candidates were not run as fleets though their best case promises more.")
    if any(p.price_source for p in question.platforms):
        notes.append("Prices are of their date; give your own with hardware[i].usd_per_gpu_hour.")
    return tuple(notes)
