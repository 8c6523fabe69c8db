"""The sections about one run."""

import re

import pandas as pd

from simulator.metrics.result import RunResult
from simulator.report import digest
from simulator.report.answer import headline, verdicts
from simulator.report.figures import resources, timeline, times
from simulator.report.page.html import Plots, section, table, tag, text
from simulator.report.page.numerics import numerics_table, tokens_table
from simulator.units import format_bytes, format_time


def answer(result: RunResult, level: str = "h1") -> str:
    """The four answers in large type."""
    tiles = "".join(
        tag("div", f'<span class="question">{text(v.question)}</span><strong>{text(v.answer)}</strong>'
            f"<span>{text(v.detail)}</span>", class_=f"tile {v.state}")
        for v in verdicts(result)
    )  # fmt: skip
    warnings = "".join(tag("li", text(warning)) for warning in result.warnings)
    notes = f'<ul class="warnings">{warnings}</ul>' if warnings else ""
    said = re.sub(r"(?<=\d) (?=\w)", "\u00a0", headline(result))  # a number and its unit stay together
    return tag(level, text(f"{said}."), class_="headline") + tag("div", tiles, class_="tiles") + notes


def facts(result: RunResult) -> str:
    """What was asked. Facts in words are shown where there are any; keys for scripts stay in summary.json."""
    worded = {name: value for name, value in result.facts.items() if name[:1].isupper()}
    rows = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in (worded or result.facts).items())
    return tag("dl", rows, class_="facts") if rows else ""


def body(result: RunResult, plots: Plots, most_bars: int = timeline.MOST_BARS) -> str:
    """Everything below the answer."""
    ops = digest.timed(result.ops)
    parts = [
        section("What was asked", facts(result)),
        section("Where the time goes", _latency(result, plots, ops)),
        section("Timeline", plots.choice(timeline.timelines(result, ops, most_bars)), lead=_TIMELINE),
        section(
            "Links", plots.all(resources.links(result)), lead="What each class of link and the busiest links carry."
        ),
        section("Memory", plots.all(resources.memory(result)), lead=_memory_lead(result)),
        section("Numbers", numerics_table(result) + tokens_table(result), lead=_NUMERICS),
        section("Experts", plots.all(resources.experts(result)), lead=_experts_lead(result, ops)),
        section("Hand-over of the KV cache", _handover(result, plots), lead=_handover_lead(result)),
        section("Steps", _steps(result), opened=False),
        section("Where the figures come from", _provenance(ops), lead=_PROVENANCE, opened=False),
    ]
    return "".join(parts)


_TIMELINE = "Every rank has a stream for kernels and one for communication; gaps are waits."
_NUMERICS = (
    "A miniature of the model ran on every rank with the same sharding and the same collectives. The table shows the "
    "largest relative difference from the unsharded miniature in the same number format."
)
_PROVENANCE = (
    "Measured: interpolated inside a table of measurements. Fitted: a model of kernels or collectives with parameters "
    "fitted to measurements. Roofline: the datasheet's rates, and nothing else."
)


def _latency(result: RunResult, plots: Plots, ops: pd.DataFrame) -> str:
    phases = digest.phases(result)
    if not phases:
        return ""
    costly = [
        (op, group, format_time(time_s), f"{share:.1%}", bound, origin)
        for op, group, time_s, share, bound, origin in times.costliest(ops, phases[-1])
    ]
    head = ("op", "group", "time a step", "share", "bound by", "price")
    listing = tag("h3", text(f"Costliest ops of a {phases[-1]} step")) + table(head, costly, numeric=(2, 3))
    return plots.all(times.by_op(result, ops)) + plots.choice(times.by_layer(result, ops)) + listing


def _memory_lead(result: RunResult) -> str:
    most = digest.fullest(result)
    if most is None:
        return ""
    free = most.capacity_bytes - most.total_bytes
    pool = f" of pool {most.pool}" if result.memory["pool"].nunique() > 1 else ""
    return f"Fullest is rank {most.rank}{pool}, with {format_bytes(free)} left."


def _experts_lead(result: RunResult, ops: pd.DataFrame) -> str:
    found = digest.imbalance(result, ops)
    if found is None or digest.finite(found.expected) is None:
        return ""
    return (
        f"The busiest expert has {found.expected:.2f} times the mean load as priced, {found.routed:.2f} times as the "
        f"miniature's router chose; the busiest rank computes {found.time:.2f} times as long as the mean."
    )


def _handover_lead(result: RunResult) -> str:
    found = digest.handover(result)
    if found is None:
        return ""
    again = f", {format_bytes(found.duplicate_bytes)} of it more than once" if found.duplicate_bytes else ""
    return f"{format_bytes(found.bytes)} in {format_time(found.time_s)} over {found.pairs} pairs of ranks{again}."


def _handover(result: RunResult, plots: Plots, most: int = 16) -> str:
    frame = result.handover
    if frame.empty:
        return ""
    rows = [
        (r["source_rank"], r["destination_rank"], r["layers"], r["tokens"], format_bytes(r["bytes"]),
         format_bytes(r["duplicate_bytes"]), format_time(r["end_s"] - r["start_s"]))
        for r in frame.nlargest(most, "bytes").to_dict("records")
    ]  # fmt: skip
    head = ("from rank", "to rank", "layers", "tokens", "bytes", "duplicated", "time")
    more = f" (the {most} largest of {len(frame)})" if len(frame) > most else ""
    listing = tag("h3", text(f"Transfers{more}")) + table(head, rows, numeric=range(7))
    return plots.all(resources.handover(result)) + listing


def _steps(result: RunResult, most: int = 40) -> str:
    rows = [
        (s["step"], s["phase"], s["pool"], s["tokens"], format_time(s["time_s"]), format_time(s["compute_s"]),
         format_time(s["exposed_comm_s"]), f"{s['comm_share']:.1%}", format_time(s["floor_s"]))
        for s in result.steps.head(most).to_dict("records")
    ]  # fmt: skip
    head = ("step", "phase", "pool", "tokens", "time", "compute", "waiting for links", "share", "floor")
    return table(head, rows, numeric=(0, *range(3, 9))) if rows else ""


def _provenance(ops: pd.DataFrame) -> str:
    shares = digest.provenance_shares(ops)
    return table(("price", "share of simulated time"), [(k, f"{v:.1%}") for k, v in shares.items()], numeric=(1,))
