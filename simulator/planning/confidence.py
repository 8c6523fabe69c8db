"""How sure an answer is: where its costs come from, and how far such answers lay from measurements."""

from math import ceil

from simulator.planning.budget import Phase, provenance_shares
from simulator.planning.question import Question
from simulator.planning.result import BudgetItem, Confidence, Evaluation, Interval
from simulator.planning.validated import Validated, validated


def confidence_of(question: Question, winner: Evaluation, budget: tuple[BudgetItem, ...]) -> Confidence:
    """Intervals of one median error each way: about half of validated runs lie inside."""
    score = winner.score
    assert score is not None
    known, intervals = validated(question, separated=winner.candidate.separated), []
    for name, value, error in (
        ("ttft_s", score.ttft_s, known.ttft), ("tpot_s", score.tpot_s, known.tpot),
        ("e2el_s", score.e2el_s, known.e2el), ("load_requests_per_s", score.load_requests_per_s, known.throughput),
        ("usd_per_million_tokens", score.usd_per_million_tokens, known.throughput),
    ):  # fmt: skip
        if value:
            intervals.append(Interval(name, value, value / (1 + error), value * (1 + error), error, known.source))
    intervals.append(_gpus(question, winner, known))
    weights: dict[Phase, float] = {
        "prefill": score.ttft_s or 0.0, "decode": (score.tpot_s or 0.0) * question.traffic.mean_output,
    }  # fmt: skip
    shares = provenance_shares(budget, weights)
    told = ", ".join(f"{share:.0%} {name}" for name, share in shares)
    text = (
        f"Of the time on the critical path {told}. Half of the validated runs of this kind lie within "
        f"{known.tpot:.0%} in TPOT, {known.ttft:.0%} in TTFT and {known.throughput:.0%} in throughput."
    )
    return Confidence(shares, tuple(intervals), text)


def _gpus(question: Question, winner: Evaluation, known: Validated) -> Interval:
    """GPUs, if each replica holds less or more by the throughput's error."""
    asked = question.asked_load
    gpus, error = winner.candidate.gpus, known.throughput
    if asked is None or winner.score is None:
        return Interval("gpus", gpus, gpus, gpus, 0.0, "all that there are, or one replica of each pool")
    load = winner.score.load_requests_per_s

    def needed(factor: float) -> float:
        return float(
            sum(ceil(pool.replicas * asked / (load * factor) - 1e-9) * pool.gpus_per_replica
                for pool in winner.candidate.pools)
        )  # fmt: skip

    return Interval("gpus", gpus, min(gpus, needed(1 + error)), max(gpus, needed(1 / (1 + error))), error, known.source)
