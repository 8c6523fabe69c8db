"""The winner's design again with one input changed: what the answer hangs on.

Each part's simulated load is taken to change as its steady-state load does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from simulator.errors import ShardsimError
from simulator.planning.assess import Assessed, assess
from simulator.planning.designs import Design, stored
from simulator.planning.execute import Executor
from simulator.planning.platforms import faster_network, next_generation
from simulator.planning.question import Question
from simulator.planning.result import Score, Sensitivity
from simulator.planning.sizing import Sized, counts_for, pool_of, score_at

MORE = 0.1
LONGER = 0.2
FEW = ("10 % more traffic", "20 % longer prompts")
"""Of a neighbour; with the loss of a node."""
ROOM = 4
"""A change may ask for so many times the GPUs there are before it counts as beyond them."""


@dataclass(frozen=True, slots=True)
class Change:
    """A changed question, and the designs in it."""

    name: str
    question: Question
    designs: tuple[Design, ...]


def sensitivity(
    question: Question, subjects: Sequence[tuple[Sized, tuple[float, ...]]], executor: Executor
) -> tuple[tuple[Sensitivity, ...], ...]:
    """For each candidate, what the changes do that mean something for this question: every one for the first, the
    winner; the `FEW` for its neighbours. With each goes the most that each part's replica held."""
    wide = _wide(question)
    changes = [
        [c for c in _changes(wide, _designs(sized)) if not index or c.name in FEW]
        for index, (sized, _) in enumerate(subjects)
    ]
    tasks = [
        (change, sized.parts) for (sized, _), mine in zip(subjects, changes, strict=True) for change in mine
    ]  # fmt: skip
    again = iter(list(executor.map(_again, tasks)))
    return tuple(
        _moved(question, sized, simulated, [(change, next(again)) for change in mine])
        for (sized, simulated), mine in zip(subjects, changes, strict=True)
    )


def _moved(
    question: Question, sized: Sized, simulated: tuple[float, ...],
    again: Sequence[tuple[Change, tuple[Assessed, ...] | str]],
) -> tuple[Sensitivity, ...]:  # fmt: skip
    metric, before = _metric(question, sized.evaluation.score)
    if before is None:
        return ()
    steady = [part.curve.held if part.curve else 1.0 for part in sized.parts]
    trust = tuple(one / other for one, other in zip(simulated, steady, strict=True))
    found = []
    for change, parts in again:
        score = parts if isinstance(parts, str) else _resized(change.question, parts, trust)
        after = None if isinstance(score, str) else _metric(question, score)[1]
        found.append(Sensitivity(change.name, metric, before, after, score if isinstance(score, str) else ""))
    return (*found, _node_lost(question, sized, metric, before))


def _resized(question: Question, parts: tuple[Assessed, ...], trust: tuple[float, ...]) -> Score | str:
    """The changed candidate's score, sized anew; or why there is none."""
    loads = tuple((part.curve.held if part.curve else 0.0) * t for part, t in zip(parts, trust, strict=True))
    counts = counts_for(question, parts, loads)
    if counts is None:
        return f"takes more than {ROOM} times the GPUs there are"
    most = min(count * load for count, load in zip(counts, loads, strict=True))
    asked = question.asked_load
    pools = tuple(pool_of(question, part, count) for part, count in zip(parts, counts, strict=True))
    return score_at(question, "steady", pools, most, asked or most, (0.0, 0.0, 0.0), 0.0, 0.0)


def _wide(question: Question) -> Question:
    """With room for more GPUs, where the load is what is given."""
    if question.asked_load is None:
        return question
    platforms = tuple(
        replace(p, max_gpus=p.max_gpus * (ROOM if p.across else 1)) for p in question.platforms
    )  # fmt: skip
    return replace(question, platforms=platforms, max_gpus=question.max_gpus * ROOM)


def _designs(winner: Sized) -> tuple[Design, ...]:
    return tuple(part.design for part in winner.parts)


def _changes(question: Question, designs: tuple[Design, ...]) -> Iterator[Change]:
    traffic = question.traffic
    if traffic.requests_per_s is not None and question.asked_load is not None:
        more = replace(traffic, requests_per_s=traffic.requests_per_s * (1 + MORE))
        yield Change("10 % more traffic", replace(question, traffic=more), designs)
    used = {design.platform for design in designs}
    faster = tuple(faster_network(p, 2.0) if i in used else p for i, p in enumerate(question.platforms))
    yield Change("twice the NIC", replace(question, platforms=faster), designs)
    yield from _newer(question, designs, used)
    for precision in ("fp8", "nvfp4"):
        if _can(question, designs, precision):
            changed = tuple(replace(design, precision=precision) for design in designs)
            yield Change(f"weights in {precision}", question, changed)
    if all(design.kv_cache != "fp8" for design in designs):
        yield Change("KV cache in fp8", question, tuple(replace(design, kv_cache="fp8") for design in designs))
    if traffic.trace is None:
        longer = replace(traffic, input_tokens=round(traffic.input_tokens * (1 + LONGER)))
        yield Change("20 % longer prompts", replace(question, traffic=longer), designs)
        answers = replace(traffic, output_tokens=round(traffic.output_tokens * (1 + LONGER)))
        yield Change("20 % longer answers", replace(question, traffic=answers), designs)
    slo = question.slo
    if slo.tpot_s is not None:
        yield Change("TPOT limit 20 % tighter", replace(question, slo=replace(slo, tpot_s=slo.tpot_s * 0.8)), designs)
    if slo.ttft_s is not None:
        yield Change("TTFT limit 20 % tighter", replace(question, slo=replace(slo, ttft_s=slo.ttft_s * 0.8)), designs)


def _newer(question: Question, designs: tuple[Design, ...], used: set[int]) -> Iterator[Change]:
    platforms = list(question.platforms)
    names = []
    for index in used:
        newer = next_generation(platforms[index])
        if newer is None:
            return
        price = platforms[index].usd_per_gpu_hour
        platforms[index] = replace(newer, max_gpus=platforms[index].max_gpus, usd_per_gpu_hour=price)
        names.append(newer.name)
    yield Change(f"next GPU generation: {' and '.join(names)}", replace(question, platforms=tuple(platforms)), designs)


def _can(question: Question, designs: tuple[Design, ...], precision: str) -> bool:
    """Whether the change is one, and the GPUs have tensor cores for it."""
    need = {"fp8": "fp8", "nvfp4": "fp4"}[precision]
    for design in designs:
        own = stored(question.model, design.precision, "").quantization
        if stored(question.model, precision, "").quantization == own or own.weights == precision:
            return False
        if need not in question.platforms[design.platform].device.peak_flops_per_s:
            return False
    return True


def _again(task: tuple[Change, tuple[Assessed, ...]]) -> tuple[Assessed, ...] | str:
    """The changed parts, or why there are none."""
    change, parts = task
    question = change.question
    found: list[Assessed] = []
    for design, part in zip(change.designs, parts, strict=True):
        mode = "aggregated" if part.role == "mixed" else "separated"
        space = replace(
            question.space, modes=(mode,), max_sequences=(part.max_sequences,),
            max_batched_tokens=(part.max_batched_tokens,),
        )  # fmt: skip
        try:
            roles = assess((replace(question, space=space), (design,)))
        except ShardsimError as error:
            return str(error)
        again = next(a for a in roles if a.role == part.role)
        if again.curve is None or again.curve.held <= 0.0:
            return again.reason or "no load holds"
        found.append(again)
    return tuple(found)


def _metric(question: Question, score: Score | None) -> tuple[str, float | None]:
    asked = question.traffic.requests_per_s is not None
    match question.objective:
        case "min_gpus":
            return "GPUs", None if score is None else float(score.gpus)
        case "min_cost" if score is None or score.usd_per_million_tokens is not None:
            return "$/M tokens", None if score is None else score.usd_per_million_tokens
        case "min_cost" if asked:
            return "GPUs", None if score is None else float(score.gpus)
        case "max_load":
            return "requests/s", None if score is None else score.load_requests_per_s
    return "requests/s per GPU", None if score is None else score.load_requests_per_s / score.gpus


def _node_lost(question: Question, winner: Sized, metric: str, before: float) -> Sensitivity:
    """N+1: what it takes to hold the load with one node of any pool down; or what is left without one."""
    name = "one node lost (N+1)"
    spare, left = 0, 1.0
    for pool, part in zip(winner.evaluation.candidate.pools, winner.parts, strict=True):
        per_node = question.platforms[part.design.platform].per_node
        lost = min(pool.replicas, max(1, ceil(per_node / pool.gpus_per_replica)))
        spare += lost * pool.gpus_per_replica
        left = min(left, 1.0 - lost / pool.replicas)
    gpus = winner.evaluation.candidate.gpus
    if metric == "GPUs":
        return Sensitivity(name, metric, before, before + spare, f"{spare} GPUs more, a node's worth in each pool")
    if metric == "$/M tokens":
        return Sensitivity(name, metric, before, before * (gpus + spare) / gpus, f"{spare} GPUs more in reserve")
    note = f"{1.0 - left:.0%} of the load is lost until it is repaired"
    return Sensitivity(name, metric, before, before * left, note)
