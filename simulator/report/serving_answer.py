"""A serving run in words: does it keep its limits, how fast, at what price, and can its means be trusted?"""

from math import isfinite

from simulator.metrics.serving_run import ServingResult
from simulator.metrics.stability import MEANING
from simulator.report.answer import Verdict
from simulator.units import format_time

NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2EL"}
STATISTICS = ("mean", "median", "p90", "p95", "p99")
_STATE = {"stable": "good", "backlogged": "neutral", "overloaded": "bad"}


def milliseconds(result: ServingResult, statistic: str, name: str) -> float:
    """A field such as p95_ttft_ms; not a number where there is none (answers of one token have no TPOT)."""
    value = result.benchmark.get(f"{statistic}_{name}_ms")
    return float(value) if isinstance(value, int | float) else float("nan")


def in_words(ms: float) -> str:
    """A time of the result file for reading."""
    return format_time(ms * 1e-3) if isfinite(ms) else "-"


def number(result: ServingResult, name: str) -> float:
    """A number of the result file."""
    value = result.benchmark.get(name)
    return float(value) if isinstance(value, int | float) else float("nan")


def serving_verdicts(result: ServingResult) -> tuple[Verdict, ...]:
    """The four answers, in the order they are asked."""
    return (_limits(result), _speed(result), _price(result), _load(result))


def _limits(result: ServingResult) -> Verdict:
    slo = result.case.slo
    if slo is None:
        return Verdict("Are limits kept?", "None given", "set slo: {ttft: ..., tpot: ...}", "neutral")
    share = result.figures["good_share"]
    kept = share >= slo.share and not result.rejected
    given = {"TTFT": slo.ttft_s, "TPOT": slo.tpot_s, "E2EL": slo.e2el_s}
    limits = ", ".join(f"{name} {format_time(value)}" for name, value in given.items() if value is not None)
    detail = f"{share:.1%} of the requests keep {limits}; {slo.share:.0%} were asked for"
    return Verdict("Are limits kept?", "Yes" if kept else "No", detail, "good" if kept else "bad")


def _speed(result: ServingResult) -> Verdict:
    first, token = milliseconds(result, "p95", "ttft"), milliseconds(result, "p95", "tpot")
    rate = result.figures["output_tokens_per_s_per_gpu"]
    detail = f"to the first token, p95; then {in_words(token)} a token; {rate:,.0f} output tokens/s a GPU"
    return Verdict("How fast?", in_words(first), detail, "neutral")


def _price(result: ServingResult) -> Verdict:
    usd, joules = result.figures["usd_per_million_output_tokens"], result.figures["joules_per_output_token"]
    energy = f"{joules:,.2f} J a token, {result.figures['power_w_per_gpu']:,.0f} W a GPU"
    if not isfinite(usd):
        return Verdict("At what price?", "No price", f"{energy}; give prices.usd_per_gpu_hour", "neutral")
    return Verdict("At what price?", f"${usd:,.2f}", f"a million output tokens; {energy}", "neutral")


def _load(result: ServingResult) -> Verdict:
    meaning = MEANING[result.label]
    state = _STATE[result.label]
    assert state in ("good", "neutral", "bad")
    return Verdict("Does it keep up?", result.label.capitalize(), meaning, state)  # type: ignore[arg-type]


def serving_headline(result: ServingResult) -> str:
    """One sentence: `Stable: p95 324 ms to the first token and 27.5 ms a token, 100.0% within limits`."""
    first, token = (in_words(milliseconds(result, "p95", name)) for name in ("ttft", "tpot"))
    said = f"{result.label.capitalize()}: p95 {first} to the first token and {token} a token"
    if result.case.slo is not None:
        said += f", {result.figures['good_share']:.1%} within limits"
    return said


def serving_lines(result: ServingResult) -> list[str]:
    """The answer as the command line prints it."""
    figures = result.figures
    lines = [f"{result.case.name}: {serving_headline(result)}"]
    lines.append("  " + " " * 6 + "".join(f"{name:>12}" for name in STATISTICS))
    for key, name in NAMES.items():
        values = "".join(f"{in_words(milliseconds(result, each, key)):>12}" for each in STATISTICS)
        lines.append(f"  {name:6}{values}")
    goodput = number(result, "request_goodput:")
    good = f", {goodput:.2f} of them within limits" if isfinite(goodput) else ""
    lines.append(
        f"  {number(result, 'request_throughput'):.2f} requests/s{good}; a GPU: "
        f"{figures['output_tokens_per_s_per_gpu']:,.0f} tokens/s out, {figures['input_tokens_per_s_per_gpu']:,.0f} in"
    )
    usd = figures["usd_per_million_output_tokens"]
    price = f"${usd:,.2f} a million output tokens" if isfinite(usd) else "no price known"
    lines.append(
        f"  {price}; {figures['joules_per_output_token']:.2f} J a token; GPUs busy {figures['busy']:.0%}"
        + (f"; KV at most {figures['kv_max']:.0%}" if isfinite(figures["kv_max"]) else "")
    )
    if result.rejected or figures["retried_requests"]:
        lines.append(f"  {figures['retried_requests']:.0f} requests retried after faults, {result.rejected} refused")
    if result.correctness is not None and result.correctness.checked:
        right = "equal" if result.correctness.tokens_equal else "DIFFER FROM"
        lines.append(f"  the sharded miniature's tokens {right} the unsharded one's")
    return lines + [f"  note: {warning}" for warning in result.warnings]
