"""A PlanResult made by hand: uneven, with every part filled, so that a page about it shows every section."""

from dataclasses import replace
from itertools import product
from math import cos, pi, sin

from simulator.parallel.layout import Layout
from simulator.planning.result import (
    Asked,
    BudgetItem,
    Candidate,
    Confidence,
    Evaluation,
    Explanation,
    Interval,
    Limit,
    LoadPoint,
    ParetoFront,
    PlanResult,
    PoolPlan,
    Price,
    Score,
    Sensitivity,
    Slo,
    TrafficPoint,
)

PRICES = {"H100": 2.95, "H200": 3.6, "B200": 5.4}
SPEED = {"H100": 1.0, "H200": 1.35, "B200": 2.4}
MODEL = "meta-llama/Llama-3.1-70B-Instruct"
SLO = Slo(ttft_s=0.5, tpot_s=0.03, e2el_s=None, percentile=95)
RATE, OUTPUT = 24.0, 320.0


def score(gpu: str, gpus: int, layout: Layout, method: str = "steady") -> Score:
    tp = layout.tp * layout.dp_attention
    per_user = 22 * SPEED[gpu] ** 0.7 * tp**0.55
    per_gpu = 2600 * SPEED[gpu] / tp**0.35 / layout.pp**0.1
    load = gpus * per_gpu / OUTPUT
    dollars = gpus * PRICES[gpu]
    return Score(
        method="simulated" if method == "simulated" else "steady", gpus=gpus, load_requests_per_s=load,
        asked_requests_per_s=RATE, ttft_s=0.9 / SPEED[gpu] / tp**0.6, tpot_s=1 / per_user,
        e2el_s=0.9 / tp**0.6 + OUTPUT / per_user, output_tokens_per_s_per_gpu=per_gpu, tokens_per_s_per_user=per_user,
        usd_per_hour=dollars, usd_per_million_tokens=1e6 * dollars / 3600 / (RATE * OUTPUT), decode_batch=17.3 * tp,
        kv_used_share=0.41 + 0.07 * tp / 8,
    )  # fmt: skip


def pool(gpu: str, layout: Layout, precision: str = "fp8", role: str = "mixed", engine: str = "vllm") -> PoolPlan:
    assert role in ("mixed", "prefill", "decode")
    return PoolPlan(role, gpu, f"dgx_{gpu.lower()}", layout, precision, "fp8", engine, 256, 8192)  # type: ignore[arg-type]


def judged(candidate: Candidate) -> Evaluation:
    part = candidate.pools[-1]
    gpus, layout = part.layout.ranks, part.layout
    if part.precision == "bf16" and gpus * {"H100": 80, "H200": 141, "B200": 180}[part.gpu] < 190:
        reason = f"141 GiB of weights <and> {gpus} {part.gpu}: none is left for KV"
        return Evaluation(candidate, "no_memory", reason, "kv_memory")
    if layout.tp > 8:
        return Evaluation(candidate, "illegal", "tp = 16 does not divide num_key_value_heads = 8", "layout")
    one = score(part.gpu, gpus, layout)
    if one.tpot_s is not None and one.tpot_s > 0.03:
        return Evaluation(candidate, "bound", f"even alone a token takes {1e3 * one.tpot_s:.0f} ms of 30", "tpot")
    replicas = int(-(-RATE // one.load_requests_per_s))
    pools = tuple(replace(p, replicas=replicas if p is part else 2) for p in candidate.pools)
    sized = replace(candidate, pools=pools)
    whole = score(part.gpu, sized.gpus, layout)
    status = "scored" if whole.ttft_s is not None and whole.ttft_s < 0.5 else "misses"
    return Evaluation(sized, status, "TTFT binds" if status == "misses" else "TPOT binds", "tpot", whole)  # type: ignore[arg-type]


def candidates() -> list[Candidate]:
    found = []
    for gpu, precision, tp, pp, engine in product(
        PRICES, ("fp8", "bf16"), (1, 2, 4, 8, 16), (1, 2), ("vllm", "sglang")
    ):
        part = pool(gpu, Layout(tp=tp, pp=pp), precision, engine=engine)
        found.append(Candidate(f"{gpu}-{precision}-tp{tp}pp{pp}-{engine}", (part,)))
    for gpu, tp, other in product(("H100", "H200"), (2, 4, 8), (1, 2, 4)):
        pair = (pool(gpu, Layout(tp=other), role="prefill"), pool(gpu, Layout(tp=tp), role="decode"))
        found.append(Candidate(f"{gpu}-P tp{other}-D tp{tp}", pair))
    return found


def front(evaluations: list[Evaluation], x: str, y: str, x_up: bool, y_up: bool) -> ParetoFront:
    def at(e: Evaluation) -> tuple[float, float]:
        assert e.score is not None
        return (1 if x_up else -1) * getattr(e.score, x), (1 if y_up else -1) * getattr(e.score, y)

    held = [e for e in evaluations if e.holds]
    best = [e for e in held if not any(all(a >= b for a, b in zip(at(o), at(e), strict=True)) and at(o) != at(e)
                                       for o in held)]  # fmt: skip
    ids = tuple(e.candidate.id for e in sorted(best, key=lambda e: getattr(e.score, x)))
    return ParetoFront(f"{y} against {x}", x, y, x_up, y_up, ids)


def budget() -> tuple[BudgetItem, ...]:
    parts = (("GEMM", 7.1e-3, "fitted", 0.06), ("attention", 3.2e-3, "fitted", 0.09),
             ("all_reduce (tp)", 1.9e-3, "measured", 0.04), ("norms <and> adds", 0.8e-3, "roofline", 0.3),
             ("host", 0.6e-3, "host", 0.2))  # fmt: skip
    total = sum(seconds for _, seconds, _, _ in parts)
    return tuple(
        BudgetItem("prefill" if scale > 1 else "decode", 0, name, seconds * scale, seconds / total, origin, error)
        for scale in (31.0, 1.0)
        for name, seconds, origin, error in parts
    )


def traffic() -> tuple[TrafficPoint, ...]:
    found = []
    for i in range(96):
        day = 0.55 - 0.45 * cos(2 * pi * i / 96) + 0.06 * sin(1.7 * i)
        late = 0.21 + 0.36 * max(0.0, day - 0.5) ** 1.4
        found.append(TrafficPoint(900.0 * i, RATE * day, late if i % 17 else None, 0.019 + 0.008 * day))
    return tuple(found)


def load_points(evaluations: list[Evaluation]) -> tuple[LoadPoint, ...]:
    found = []
    for e in evaluations:
        assert e.score is not None
        assert e.score.ttft_s is not None
        assert e.score.tpot_s is not None
        for part in (0.25, 0.5, 0.75, 0.9, 1.0, 1.08):
            ttft = e.score.ttft_s * (0.5 + 0.5 / (1.12 - part))
            tpot = e.score.tpot_s * (0.6 + 0.4 * part)
            rate = part * e.score.load_requests_per_s
            found.append(LoadPoint(e.candidate.id, rate, ttft, tpot, ttft + OUTPUT * tpot, part <= 1.0))
    return tuple(found)


def make_plan(name: str = "chat on <anything>") -> PlanResult:
    evaluations = sorted((judged(c) for c in candidates()), key=lambda e: (
        not e.holds, (e.score.usd_per_million_tokens or 0) if e.score else 9e9, e.candidate.id))  # fmt: skip
    first = evaluations[0]
    assert first.score is not None
    best = replace(first, status="confirmed", score=replace(first.score, method="simulated"), steady=first.score)
    evaluations[0] = best
    limits = (Limit("ttft", 0.43, 0.5, 0.86), Limit("tpot", 0.0288, 0.03, 0.96), Limit("kv_memory", 31e9, 66e9, 0.47))
    text = "TPOT binds: a decode step of 17 sequences takes 28.8 ms of 30 ms."
    explanations = [Explanation(best.candidate.id, text, "tpot", limits, budget())]
    explanations += [
        Explanation(e.candidate.id, f"costs more: {e.reason}", e.binding, limits) for e in evaluations[1:4]
    ]
    cost = best.score.usd_per_million_tokens or 0.0
    confidence = Confidence(
        (("measured", 0.14), ("fitted", 0.72), ("roofline", 0.1), ("host", 0.04)),
        (
            Interval("ttft_s", 0.43, 0.33, 0.53, 0.23, "closed-loop runs, vLLM on H200, 2026-11"),
            Interval("tpot_s", 0.0288, 0.0251, 0.0324, 0.13, "closed-loop runs, vLLM on H200, 2026-11"),
            Interval("usd_per_million_tokens", cost, 0.87 * cost, 1.13 * cost, 0.13, "from the load's interval"),
        ),
        "A tenth of the decode step is priced by rooflines; the rest by fits and measurements.",
    )
    sensitivity = (
        Sensitivity("10 % more traffic", "$/M tokens", cost, 1.09 * cost, "one replica more"),
        Sensitivity("twice the NIC", "$/M tokens", cost, cost),
        Sensitivity("next GPU generation: B200", "$/M tokens", cost, 0.81 * cost),
        Sensitivity("20 % longer prompts", "$/M tokens", cost, 1.16 * cost),
        Sensitivity("one failed node (N+1)", "$/M tokens", cost, None, "no replica is left over"),
    )
    held = [e for e in evaluations if e.holds]
    return PlanResult(
        name=name, description="Llama-3.1-70B for 24 requests a second & a limit on every token",
        asked=Asked(MODEL, "min_cost", SLO, "24 requests/s, Poisson; 1,100 in, 320 out", RATE, 1100.0, OUTPUT, 1375,
                    400, 64, tuple(Price(g, p, "price table, 2026-05-20") for g, p in PRICES.items())),
        winner=best, evaluations=tuple(evaluations),
        pareto=(front(evaluations, "tokens_per_s_per_user", "output_tokens_per_s_per_gpu", True, True),
                front(evaluations, "ttft_s", "usd_per_million_tokens", False, False)),
        explanations=tuple(explanations), sensitivity=sensitivity, confidence=confidence, binding="tpot", relax=(),
        load_points=load_points(held[:3]), traffic=traffic(),
        notes=("12 candidates were scored and not simulated",), elapsed_s=3.2,
    )  # fmt: skip


def make_infeasible() -> PlanResult:
    plan = make_plan("nothing fits")
    failed = tuple(e for e in plan.evaluations if not e.holds)
    return replace(
        plan, winner=None, evaluations=failed, pareto=(), explanations=(), sensitivity=(), confidence=None,
        binding="kv_memory", load_points=(), traffic=(), relax=("TPOT limit to 45 ms (H200, tp4)", "128 GPUs"),
    )  # fmt: skip
