"""The plan's answer in words: a headline and four tiles."""

from simulator.planning.result import Evaluation, Interval, PlanResult, Score
from simulator.report.answer import Verdict
from simulator.report.plan.words import AXES, BINDING, candidate_text, figure, hardware_text, limits_of, percentile_text


def headline(result: PlanResult) -> str:
    """One sentence: what to rent, and what it does; or that nothing holds, and why."""
    if result.winner is None or result.winner.score is None:
        stopped = f": {BINDING[result.binding]} binds" if result.binding else ""
        return f"Nothing within {result.asked.max_gpus} GPUs holds these limits{stopped}"
    score = result.winner.score
    hardware = hardware_text(result.winner.candidate)
    if result.asked.requests_per_s is None:
        load = AXES["load_requests_per_s"].text(score.load_requests_per_s)
        return f"{hardware} hold up to {load} within the limits{_price(score)}"
    return f"{hardware} hold {AXES['load_requests_per_s'].text(result.asked.requests_per_s)}{_price(score)}"


def _price(score: Score) -> str:
    if score.usd_per_million_tokens is None:
        return ""
    return f" at {AXES['usd_per_million_tokens'].text(score.usd_per_million_tokens)} per million output tokens"


def verdicts(result: PlanResult) -> tuple[Verdict, ...]:
    """What to rent, what it costs, whether the limits hold, how sure that is."""
    if result.winner is None or result.winner.score is None:
        counts = {status: sum(e.status == status for e in result.evaluations) for status in ("no_memory", "illegal")}
        tried = f"{len(result.evaluations):,} looked at; {counts['no_memory']:,} do not fit"
        binds = BINDING[result.binding] if result.binding else "see below"
        relax = result.relax[0] if result.relax else ""
        return (
            Verdict("Is there a way?", "No", tried, "bad"),
            Verdict("What stops it?", binds[:1].upper() + binds[1:], "what most candidates fail by", "neutral"),
            Verdict("What helps first?", "The least first", relax, "neutral"),
        )
    return _hardware(result.winner), _cost(result), _limits(result, result.winner.score), _sure(result)


def _hardware(winner: Evaluation) -> Verdict:
    text = candidate_text(winner.candidate)
    return Verdict("How many of which?", hardware_text(winner.candidate), text, "neutral")


def _cost(result: PlanResult) -> Verdict:
    assert result.winner is not None
    score = result.winner.score
    assert score is not None
    per_token, per_hour = score.usd_per_million_tokens, score.usd_per_hour
    if per_token is None or per_hour is None:
        rate = AXES["output_tokens_per_s_per_gpu"].text(score.output_tokens_per_s_per_gpu)
        return Verdict("How much does it do?", rate, "per GPU; no price was given", "neutral")
    spread = _spread(_interval(result, "usd_per_million_tokens"), "usd_per_million_tokens")
    detail = f"per million output tokens{spread}; {AXES['usd_per_hour'].text(per_hour)} an hour"
    return Verdict("What does it cost?", AXES["usd_per_million_tokens"].text(per_token), detail, "neutral")


def _interval(result: PlanResult, name: str) -> Interval | None:
    held = result.confidence.intervals if result.confidence else ()
    return next((each for each in held if each.name == name), None)


def _spread(interval: Interval | None, name: str) -> str:
    return f" ({AXES[name].text(interval.low)} to {AXES[name].text(interval.high)})" if interval else ""


def _limits(result: PlanResult, score: Score) -> Verdict:
    limits = limits_of(result.asked.slo)
    if not limits:
        return Verdict("Do the limits hold?", "None set", "", "neutral")
    parts, tightest = [], 0.0
    for field, limit in limits.items():
        value = figure(score, field)
        if value is not None:
            tightest = max(tightest, value / limit)
            parts.append(f"{AXES[field].label} {AXES[field].text(value)} of {AXES[field].text(limit)}")
    at = percentile_text(result.asked.slo)
    how = {"fleet": "whole fleet simulated", "simulated": "simulated"}.get(score.method, "steady state")
    return Verdict(
        "Do the limits hold?",
        "Yes" if tightest <= 1.0 else "No",
        f"{at}, {how}: {'; '.join(parts)}",
        "good" if tightest <= 1.0 else "bad",
    )


def _sure(result: PlanResult) -> Verdict:
    names = {"ttft_s": "time to first token", "tpot_s": "time per token", "load_requests_per_s": "load"}
    told = [i for i in result.confidence.intervals if i.name in names] if result.confidence else []
    if not told:
        return Verdict("How sure is that?", "Not stated", "", "neutral")
    worst = max(i.error for i in told)
    errors = [f"{names[i.name]} ±{i.error:.0%}" for i in told]
    return Verdict("How sure is that?", f"±{worst:.0%}", f"median error in validation: {', '.join(errors)}", "neutral")
