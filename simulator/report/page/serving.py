"""The page about live serving: one run, or several side by side; with the steps of each, where those were run too."""

import re
from collections.abc import Sequence
from math import isfinite

from simulator import __version__
from simulator.metrics.result import RunResult
from simulator.metrics.serving_run import ServingResult
from simulator.report.figures import serving as figures
from simulator.report.page import sections
from simulator.report.page.build import document
from simulator.report.page.html import Plots, section, table, tag, text
from simulator.report.page.masters import LEAD, masters_compared, masters_table
from simulator.report.serving_answer import (
    NAMES,
    STATISTICS,
    in_words,
    milliseconds,
    number,
    serving_headline,
    serving_verdicts,
)
from simulator.units import format_time

Run = tuple[ServingResult, RunResult | None]
_BARS = 1200
_CLEARLY = 1.03
"""From here on one rate is called better than another."""


def serving_page(runs: Sequence[Run], title: str, description: str) -> str:
    """The page about one run or several. A run's second part is one batch of steps on the same layouts."""
    plots = Plots()
    inside = _answer(runs[0][0]) + _body(runs[0], plots) if len(runs) == 1 else _comparison(runs, plots)
    events = sum(serving.events for serving, _ in runs)
    requests = sum(len(serving.requests) for serving, _ in runs)
    said = f"shardsim {__version__} · {requests:,} requests, {events:,} events · times are predictions"
    return document(plots, title, description, inside, said)


def _answer(result: ServingResult, level: str = "h1") -> str:
    tiles = "".join(
        tag("div", f'<span class="question">{text(v.question)}</span><strong>{text(v.answer)}</strong>'
            f"<span>{text(v.detail)}</span>", class_=f"tile {v.state}")
        for v in serving_verdicts(result)
    )  # fmt: skip
    warnings = "".join(tag("li", text(warning)) for warning in result.warnings)
    notes = f'<ul class="warnings">{warnings}</ul>' if warnings else ""
    said = re.sub(r"(?<=\d) (?=\w)", "\u00a0", serving_headline(result))
    return tag(level, text(f"{said}."), class_="headline") + tag("div", tiles, class_="tiles") + notes


def _body(run: Run, plots: Plots) -> str:
    result, steps = run
    facts = "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in result.case.facts.items())
    parts = [
        section("What was asked", tag("dl", facts, class_="facts")),
        section("What users felt", _felt(result) + tag("div", plots.all(figures.distributions(result)), class_="grid")),
        section("Classes", _classes(result), lead=_CLASSES),
        section("Over time", tag("div", plots.all(figures.over_time(result)), class_="grid")),
        section("Pools", _pools(result), lead=_POOLS),
        section("Prefix cache", _tiers(result), lead=_TIERS),
        section("Masters", masters_table(result), lead=LEAD),
        section("Faults", _outages(result), lead=_fault_lead(result)),
        section("Where the figures come from", _sources(result), opened=False),
    ]
    if steps is not None:
        inside = sections.answer(steps, "h3") + sections.body(steps, plots, _BARS)
        lead = "One batch on one replica of each pool, op by op, with the numbers of a sharded miniature."
        parts.append(section("Its steps", tag("div", inside, class_="inner"), lead=lead, opened=False))
    return "".join(parts)


_POOLS = (
    "Busy: share of the time in steps. KV: of the fullest replica's fullest rank. Bandwidth and arithmetic: shares of "
    "HBM bandwidth and of the bf16 peak, from which power is estimated."
)


_CLASSES = "Lower priorities are dispatched and admitted first, and preempted last."


def _classes(result: ServingResult) -> str:
    if not len(result.classes):
        return ""
    rows = [
        (c["class"], c["priority"], f"{c['requests']:,}", *(_moment(c[key]) for key in ("mean_ttft_s", "p95_ttft_s",
         "mean_tpot_s", "p95_tpot_s", "p95_e2el_s")), f"{c['preempted']:,}", _percent(c["good_share"]))
        for c in result.classes.to_dict("records")
    ]  # fmt: skip
    head = ("class", "priority", "requests", "TTFT mean", "TTFT p95", "TPOT mean", "TPOT p95", "E2EL p95", "preempted",
            "within limits")  # fmt: skip
    return table(head, rows, numeric=range(1, 10))


_TIERS = "Where the leading blocks of prompts were found, of all that were asked for; the rest was computed."


def _tiers(result: ServingResult) -> str:
    if not len(result.tiers):
        return ""
    rows = [
        (t["pool"], t["tier"], f"{t['prompt_tokens']:,}", f"{t['found_tokens']:,}", f"{t['hit_rate']:.1%}")
        for t in result.tiers.to_dict("records")
    ]
    return table(("pool", "found", "prompt tokens", "of these here", "hit rate"), rows, numeric=(2, 3, 4))


def _felt(result: ServingResult) -> str:
    rows = [
        (name, *(in_words(milliseconds(result, statistic, key)) for statistic in STATISTICS))
        for key, name in NAMES.items()
    ]
    figures_ = result.figures
    good = number(result, "request_goodput:")
    more: list[tuple[str, str]] = [
        ("Requests a second", f"{number(result, 'request_throughput'):.3g}"),
        ("of these within limits", f"{good:.3g}" if isfinite(good) else "-"),
        ("Tokens a second out, in", f"{number(result, 'output_throughput'):,.0f}, "
         f"{figures_['input_tokens_per_s_per_gpu'] * figures_['gpus']:,.0f}"),
        ("a GPU", f"{figures_['output_tokens_per_s_per_gpu']:,.1f}, {figures_['input_tokens_per_s_per_gpu']:,.1f}"),
        ("Prompt tokens from the cache", f"{figures_['prompt_tokens_from_cache']:.1%}"),
        ("Preempted, retried, refused", f"{int((result.requests['preemptions'] > 0).sum()):,}, "
         f"{figures_['retried_requests']:,.0f}, {result.rejected:,}"),
        ("Duration", _long(number(result, "duration"))),
    ]  # fmt: skip
    return table(("", *STATISTICS), rows, numeric=range(1, 6)) + table(("", ""), more, numeric=(1,))


def _long(seconds: float) -> str:
    """A duration, in hours or minutes where it has them."""
    if seconds >= 3600.0:
        return f"{seconds / 3600.0:.4g} h"
    return f"{seconds / 60.0:.4g} min" if seconds >= 60.0 else format_time(seconds)


def _pools(result: ServingResult) -> str:
    rows = [
        (p["pool"], p["role"], p["gpu"], p["replicas"], p["gpus"], f"{p['busy']:.0%}", _percent(p["kv_mean"]),
         _percent(p["kv_max"]), f"{p['prompt_tokens']:,}", f"{p['output_tokens']:,}", f"{p['memory_share']:.0%}",
         f"{p['compute_share']:.1%}", f"{p['power_w_per_gpu']:.0f} W",
         f"${p['usd_per_hour']:,.2f}" if isfinite(p["usd_per_hour"]) else "-")
        for p in result.pools.to_dict("records")
    ]  # fmt: skip
    head = ("pool", "role", "GPU", "replicas", "GPUs", "busy", "KV mean", "KV most", "prompt tokens", "answered",
            "bandwidth", "arithmetic", "a GPU draws", "an hour")  # fmt: skip
    return table(head, rows, numeric=range(3, 14))


def _percent(value: float) -> str:
    return f"{value:.0%}" if isfinite(value) else "-"


def _outages(result: ServingResult, most: int = 40) -> str:
    if not len(result.outages):
        return ""
    rows = [
        (o["kind"], o["target"], format_time(o["start_s"]), _moment(o["end_s"]), f"{o['speed']:.0%}",
         f"{o['lost_requests']:,}", f"{o['lost_tokens']:,}", f"{o['taken_over']:,}", _moment(o["recovery_s"]))
        for o in result.outages.head(most).to_dict("records")
    ]  # fmt: skip
    head = ("what", "which", "from", "until", "speed left", "requests lost", "KV tokens lost", "taken over",
            "back after")  # fmt: skip
    return table(head, rows, numeric=range(2, 9))


def _moment(value: float) -> str:
    return format_time(value) if isfinite(value) else "-"


def _fault_lead(result: ServingResult) -> str:
    return (
        f"Replicas were up {result.figures['availability']:.2%} of the time. A lost request starts again elsewhere and "
        "recomputes its prompt and what was answered so far; none is lost or answered twice."
    )


def _sources(result: ServingResult) -> str:
    rows = [(f"Price of {pool.name}", pool.price_source) for pool in result.case.pools]
    rows += [
        ("Step times", "the step-time table of each pool: kernels and collectives as fitted, see docs/step-time.md"),
        ("Power", "idle, awake, memory and arithmetic shares of the TDP; median error 12.5 %, see docs/workloads.md"),
    ]  # fmt: skip
    return table(("", ""), rows)


# ---- several ----------------------------------------------------------------------------------------------------


def _comparison(runs: Sequence[Run], plots: Plots) -> str:
    results = [serving for serving, _ in runs]
    parts = [tag("h1", text(_verdict(results)), class_="headline"), tag("div", _modes(results), class_="modes")]
    parts.append(masters_compared(results))
    drawn = figures.comparison(results)
    parts.append(section("Side by side", tag("div", plots.all(drawn), class_="grid")))
    for serving, steps in runs:
        inside = tag("p", text(serving.case.description), class_="description") + _answer(serving, "h3")
        inside += _body((serving, steps), plots)
        parts.append(section(serving.case.name, tag("div", inside, class_="inner"), opened=False))
    return "".join(parts)


def _verdict(results: Sequence[ServingResult]) -> str:
    stable = [result for result in results if result.label == "stable"]
    said = f"{len(stable)} of {len(results)} are stable"
    if not stable:
        return f"{said}."
    loads, joined = {result.case.rate_per_s for result in results}, ";"
    if len(loads) > 1 and None not in loads:  # times under unlike loads do not compare
        most = max(rate for rate in loads if rate is not None)
        said += f"; of those at {most:,.4g} requests a second"
        joined = ","
        stable = [result for result in stable if result.case.rate_per_s == most]
        if not stable:
            return f"{said}, none."
    first = min(stable, key=lambda r: milliseconds(r, "p95", "ttft"))
    token = min(stable, key=lambda r: milliseconds(r, "p95", "tpot"))
    said += (
        f"{joined} first tokens come soonest with {first.case.name} "
        f"(p95 {in_words(milliseconds(first, 'p95', 'ttft'))}), "
        f"answers run fastest with {token.case.name} ({in_words(milliseconds(token, 'p95', 'tpot'))} a token)"
    )
    best, *others = sorted((r.figures["output_tokens_per_s_per_gpu"], r.case.name) for r in stable)[::-1]
    if others and best[0] > _CLEARLY * others[0][0]:
        said += f", and {best[1]} makes most of each GPU"
    return f"{said}."


def _modes(results: Sequence[ServingResult]) -> str:
    head = ["", "pools", "load", "limits kept", "TTFT median", "TTFT p95", "TPOT median", "TPOT p95", "requests/s",
            "tokens/s a GPU", "busy", "$ a M tokens out", "J a token", "numbers"]  # fmt: skip
    rows: list[list[object]] = []
    for r in results:
        share, usd = r.figures["good_share"], r.figures["usd_per_million_output_tokens"]
        rows.append(
            [r.case.name, "; ".join(str(v) for k, v in r.case.facts.items() if k.startswith("Pool ")), r.label,
             _percent(share), *(in_words(milliseconds(r, s, k)) for k in ("ttft", "tpot") for s in ("median", "p95")),
             f"{number(r, 'request_throughput'):.3g}", f"{r.figures['output_tokens_per_s_per_gpu']:,.0f}",
             f"{r.figures['busy']:.0%}", f"{usd:,.2f}" if isfinite(usd) else "-",
             f"{r.figures['joules_per_output_token']:.2f}", _numbers(r)]
        )  # fmt: skip
    # Columns that say the same of all are left out: the table is wide.
    same = {i for i in (1, 13) if len({row[i] for row in rows}) == 1 and (i == 1 or not rows[0][i])}
    kept = [i for i in range(len(head)) if i not in same]
    numeric = [place for place, i in enumerate(kept) if 3 <= i <= 12]
    return table([head[i] for i in kept], [[row[i] for i in kept] for row in rows], numeric)


def _numbers(result: ServingResult) -> str:
    """What the sharded miniature said, where one ran beside."""
    found = result.correctness
    if found is None or not found.checked:
        return ""
    return "equal" if found.tokens_equal else "differ"
