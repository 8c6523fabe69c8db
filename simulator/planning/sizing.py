"""From replicas to candidates: how many of which, for the load that is asked or with the GPUs there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from simulator.planning.assess import Assessed
from simulator.planning.question import Question
from simulator.planning.result import Candidate, Constraint, Evaluation, Method, PoolPlan, Score

LUCK = 0.03
"""A run of finite length may hold so much more than any steady state: no simulation tries a load beyond."""
PAIRED = 6
"""Prefill and decode designs of each kind that are paired, best first by load per GPU and per dollar."""


@dataclass(frozen=True, slots=True)
class Sized:
    """A candidate, what it was made of, and what its best case promises."""

    evaluation: Evaluation
    parts: tuple[Assessed, ...]
    bound: tuple[float, ...]
    """Rank of its best case: no simulation can make it better than this."""


def pool_of(question: Question, part: Assessed, replicas: int) -> PoolPlan:
    """A part as the result names it."""
    design, platform = part.design, question.platforms[part.design.platform]
    return PoolPlan(
        part.role, platform.device.name, platform.name, design.layout, design.precision,
        design.kv_cache or "checkpoint", design.engine, part.max_sequences, part.max_batched_tokens, replicas,
    )  # fmt: skip


def candidate_id(question: Question, parts: tuple[Assessed, ...]) -> str:
    """Readable and unique within a plan."""
    space = question.space
    texts = []
    for part in parts:
        text = part.design.label(question)
        if len(parts) > 1 or part.role != "mixed":
            text = f"{part.role} {text}"
        if len(space.max_sequences) > 1 and part.role != "prefill":
            text += f" seqs={part.max_sequences}"
        if len(space.max_batched_tokens) > 1:
            text += f" tokens={part.max_batched_tokens}"
        texts.append(text)
    return " + ".join(texts)


def usd_per_hour(question: Question, pools: tuple[PoolPlan, ...]) -> float | None:
    """What the pools cost; None where a price is not known."""
    prices = {platform.name: platform.usd_per_gpu_hour for platform in question.platforms}
    total = 0.0
    for pool in pools:
        price = prices[pool.platform]
        if price is None:
            return None
        total += price * pool.gpus
    return total


def shortest(question: Question, parts: tuple[Assessed, ...], loads: tuple[float, ...]) -> tuple[int, ...] | None:
    """Fewest replicas of each part that hold the asked load; None: too many for the GPUs there are."""
    asked = question.traffic.requests_per_s or 0.0
    counts = tuple(max(1, ceil(asked / load - 1e-9)) for load in loads)
    return counts if within(question, parts, counts) else None


def within(question: Question, parts: tuple[Assessed, ...], counts: tuple[int, ...]) -> bool:
    """As many GPUs as there are, of each kind and in all."""
    used: dict[int, int] = {}
    for part, count in zip(parts, counts, strict=True):
        platform = part.design.platform
        used[platform] = used.get(platform, 0) + count * part.design.layout.ranks
    fits = all(gpus <= question.platforms[index].max_gpus for index, gpus in used.items())
    return fits and sum(used.values()) <= question.max_gpus


def largest(question: Question, parts: tuple[Assessed, ...], loads: tuple[float, ...]) -> tuple[int, ...] | None:
    """Replicas of each part that hold the most with the GPUs there are; the fewest of those that hold as much."""
    ranks = [part.design.layout.ranks for part in parts]
    if len(parts) == 1:
        count = min(question.max_gpus, question.platforms[parts[0].design.platform].max_gpus) // ranks[0]
        return (count,) if count else None
    best: tuple[float, int, tuple[int, ...]] | None = None
    for x in range(1, question.max_gpus // ranks[0] + 1):
        y = (question.max_gpus - x * ranks[0]) // ranks[1]
        while y > 0 and not within(question, parts, (x, y)):
            y -= 1
        if y <= 0:
            continue
        # Fewer decode replicas, where prompts are what is short.
        y = min(y, max(1, ceil(x * loads[0] / loads[1] - 1e-9)))
        load = min(x * loads[0], y * loads[1])
        key = (load, -(x * ranks[0] + y * ranks[1]), (x, y))
        if best is None or key[:2] > best[:2]:
            best = key
    return best[2] if best else None


def size(question: Question, parts: tuple[Assessed, ...]) -> Sized:
    """A candidate with as many replicas as the objective wants, by steady state."""
    curves = [part.curve for part in parts if part.curve is not None]
    held = tuple(curve.held for curve in curves)
    bare = Candidate(candidate_id(question, parts), tuple(pool_of(question, part, 0) for part in parts))
    counts = counts_for(question, parts, held)
    if counts is None:
        reason = _too_few(question, parts, held)
        bound = best_rank(question, parts)
        return Sized(Evaluation(bare, "misses", reason, "gpu_count"), parts, bound)
    score = steady_score(question, parts, counts)
    pools = tuple(replace(pool, replicas=n) for pool, n in zip(bare.pools, counts, strict=True))
    binding = parts[_weakest(parts, counts)].binding
    evaluation = Evaluation(replace(bare, pools=pools), "scored", sentence(binding, question), binding, score, score)
    return Sized(evaluation, parts, best_rank(question, parts))


def counts_for(question: Question, parts: tuple[Assessed, ...], loads: tuple[float, ...]) -> tuple[int, ...] | None:
    """Replicas of each part that the objective wants, at so much load each."""
    if min(loads) <= 0.0:
        return None
    if question.asked_load is not None:
        return shortest(question, parts, loads)
    if question.objective == "max_load":
        return largest(question, parts, loads)
    return smallest_pair(question, parts, loads)


def smallest_pair(question: Question, parts: tuple[Assessed, ...], loads: tuple[float, ...]) -> tuple[int, ...] | None:
    """The smallest deployment of the design: one replica, or the pair of counts with the most load per GPU."""
    if len(parts) == 1:
        return (1,) if within(question, parts, (1,)) else None
    ranks = [part.design.layout.ranks for part in parts]
    best: tuple[float, tuple[int, ...]] | None = None
    for x in range(1, 17):
        for y in sorted({max(1, int(x * loads[0] / loads[1])), max(1, ceil(x * loads[0] / loads[1]))}):
            if within(question, parts, (x, y)):
                rate = min(x * loads[0], y * loads[1]) / (x * ranks[0] + y * ranks[1])
                if best is None or rate > best[0] * 1.02:
                    best = (rate, (x, y))
    return best[1] if best else None


def _weakest(parts: tuple[Assessed, ...], counts: tuple[int, ...]) -> int:
    loads = [count * (part.curve.held if part.curve else 0.0) for part, count in zip(parts, counts, strict=True)]
    return loads.index(min(loads))


def steady_score(question: Question, parts: tuple[Assessed, ...], counts: tuple[int, ...]) -> Score:
    """By the steady-state curves, at the asked load or the most that holds."""
    curves = [part.curve for part in parts if part.curve is not None]
    most = min(count * curve.held for count, curve in zip(counts, curves, strict=True))
    load = most if question.asked_load is None else question.asked_load
    states = [curve.at(load / count) for curve, count in zip(curves, counts, strict=True)]
    ttft, tpot, e2el, batch, kv = states[0]
    if len(states) > 1:
        _, tpot, more, batch, kv = states[1]
        e2el = ttft + more
    pools = tuple(pool_of(question, part, count) for part, count in zip(parts, counts, strict=True))
    return score_at(question, "steady", pools, most, load, (ttft, tpot, e2el), batch, kv)


def score_at(
    question: Question, method: Method, pools: tuple[PoolPlan, ...], most: float, load: float,
    latencies_s: tuple[float, float, float], batch: float, kv: float,
) -> Score:  # fmt: skip
    """A score at a load, with costs."""
    gpus = sum(pool.gpus for pool in pools)
    ttft, tpot, e2el = latencies_s
    usd = usd_per_hour(question, pools)
    tokens = load * question.traffic.mean_output
    return Score(
        method, gpus, most, question.asked_load, ttft, tpot, e2el, tokens / gpus,
        1.0 / tpot if tpot > 0.0 else None, usd, None if usd is None else usd / (tokens * 3600.0) * 1e6, batch, kv,
    )  # fmt: skip


def rank(question: Question, score: Score) -> tuple[float, ...]:
    """What the objective minimises, ties by cost, GPUs and speed."""
    usd = score.usd_per_hour if score.usd_per_hour is not None else float(score.gpus)
    per_token = score.usd_per_million_tokens
    per_load = per_token if per_token is not None else score.gpus / max(score.load_requests_per_s, 1e-12)
    tpot = score.tpot_s or 0.0
    match question.objective:
        case "min_gpus":
            return float(score.gpus), usd, tpot
        case "max_load":
            return -score.load_requests_per_s, usd, tpot
        case "min_cost":
            return per_load, usd, tpot
    return -score.load_requests_per_s / score.gpus, usd, tpot


def order_key(question: Question, sized: Sized) -> tuple[object, ...]:
    """Orders candidates that have a score, best first; of equals, the one of fewer pools: it is simpler to run."""
    score = sized.evaluation.score
    assert score is not None
    first, *others = rank(question, score)
    return (first, len(sized.parts), *others, sized.evaluation.candidate.id)


def promises(question: Question, sized: Sized, winner: Sized) -> bool:
    """Whether the candidate's best case beats the winner."""
    score = winner.evaluation.score
    assert score is not None
    return sized.bound[0] < rank(question, score)[0]


def best_rank(question: Question, parts: tuple[Assessed, ...]) -> tuple[float, ...]:
    """The first element of `rank` that the candidate could have at best: at the most that a simulation tries."""
    curves = [part.curve for part in parts if part.curve is not None]
    best = tuple(curve.best_load * (1.0 + LUCK) for curve in curves)
    counts = counts_for(question, parts, best)
    if counts is None:
        return (inf,)
    load = min(count * one for count, one in zip(counts, best, strict=True))
    pools = tuple(pool_of(question, part, count) for part, count in zip(parts, counts, strict=True))
    served = load if question.asked_load is None else question.asked_load
    return rank(question, score_at(question, "steady", pools, load, served, (0.0, 0.0, 0.0), 0.0, 0.0))[:1]


def pairs(question: Question, found: Sequence[Assessed]) -> Iterator[tuple[Assessed, Assessed]]:
    """Prefill and decode parts that can hand KV to each other (the same storage types and engine); the best of each."""
    prefills, decodes = ([a for a in found if a.role == role and a.curve] for role in ("prefill", "decode"))
    for p in _best(prefills):
        for d in _best(decodes):
            if _model_as_run(p) == _model_as_run(d) and _maker(question, p) == _maker(question, d):
                yield p, d


def _model_as_run(part: Assessed) -> tuple[str, str, str]:
    """What must be equal for one pool's KV to be the other's: weights too, or the KV is another model's."""
    return part.design.precision, part.design.kv_cache, part.design.engine


def _maker(question: Question, part: Assessed) -> str:
    """Whose GPU it is: no engine hands KV from one maker's to another's (vLLM and SGLang connectors, 2026-11)."""
    generation = question.platforms[part.design.platform].device.generation
    known = {"cdna": "AMD", "davinci": "Huawei", "xe": "Intel"}
    return next((maker for prefix, maker in known.items() if generation.startswith(prefix)), "NVIDIA")


def _best(parts: list[Assessed]) -> list[Assessed]:
    """The best of each platform, precision and engine by load per GPU, and the smallest."""
    kinds: dict[tuple[object, ...], list[Assessed]] = {}
    for part in parts:
        design = part.design
        kinds.setdefault((design.platform, design.precision, design.kv_cache, design.engine), []).append(part)
    kept: list[Assessed] = []
    for members in kinds.values():
        by_rate = sorted(members, key=lambda part: (-_held(part) / part.design.layout.ranks, part.design.layout.ranks))
        by_size = sorted(members, key=lambda part: (part.design.layout.ranks, -_held(part)))
        kept += dict.fromkeys([*by_rate[:PAIRED], *by_size[:2]])
    return kept


def _held(part: Assessed) -> float:
    return part.curve.held if part.curve else 0.0


def _too_few(question: Question, parts: tuple[Assessed, ...], loads: tuple[float, ...]) -> str:
    ranks = sum(part.design.layout.ranks for part in parts)
    asked = question.traffic.requests_per_s
    if asked is None or min(loads) <= 0.0:
        return f"one of each replica takes {ranks} GPUs; there are {question.max_gpus}"
    counts = [ceil(asked / load - 1e-9) for load in loads]
    gpus = sum(part.design.layout.ranks * count for part, count in zip(parts, counts, strict=True))
    return f"{asked:g} requests/s take {gpus} GPUs; there are {question.max_gpus}"


_SENTENCES: dict[Constraint, str] = {
    "kv_memory": "KV memory bounds the sequences that run at a time",
    "ttft": "the limit on the first token binds: prompts queue",
    "tpot": "the limit on the time per token binds: a larger batch would be slower",
    "e2el": "the limit on the whole answer binds", "link": "communication takes most of a step that is at its limit",
    "batch": "the batch limit bounds the sequences that run at a time", "compute": "prompts take all the time there is",
    "gpu_count": "more GPUs would hold more", "layout": "the layout is refused",
}  # fmt: skip


def sentence(binding: Constraint, question: Question) -> str:
    """What binds, in words with the limit."""
    slo = question.slo
    limits = {"ttft": slo.ttft_s, "tpot": slo.tpot_s, "e2el": slo.e2el_s}
    limit = limits.get(binding)
    return _SENTENCES[binding] + (f" ({limit * 1e3:g} ms at p{slo.percentile:g})" if limit is not None else "")
