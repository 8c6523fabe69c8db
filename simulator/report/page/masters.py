"""What the page says of masters: how near each is to its limit, where one saturates, and what a kill did."""

from collections.abc import Sequence
from math import isfinite

from simulator.metrics.serving_run import ServingResult
from simulator.report.page.html import section, table
from simulator.units import format_time

LEAD = "Busy: share of the time spent on dispatching; near 100 % a master is the bottleneck and its queue grows."


def capacity_per_s(result: ServingResult) -> float:
    """Requests a second that all masters together can pass on; infinite where a dispatch takes no time."""
    return sum(1.0 / spec.dispatch_s if spec.dispatch_s else float("inf") for spec in result.case.fleet.masters)


def masters_table(result: ServingResult) -> str:
    """One row a master; nothing where there is one that costs nothing."""
    specs = result.case.fleet.masters
    if len(specs) == 1 and not specs[0].dispatch_s:
        return ""
    rows = [
        (m["master"], f"{1.0 / spec.dispatch_s:,.0f}" if spec.dispatch_s else "any", f"{m['dispatched']:,}",
         f"{m['longest_queue']:,}", f"{m['busy']:.0%}")
        for m, spec in zip(result.masters.to_dict("records"), specs, strict=True)
    ]  # fmt: skip
    return table(("master", "most a second", "dispatched", "longest queue", "busy"), rows, numeric=(1, 2, 3, 4))


def masters_compared(results: Sequence[ServingResult]) -> str:
    """A section that lays the runs' masters side by side; nothing where no dispatch takes time."""
    if not any(spec.dispatch_s for result in results for spec in result.case.fleet.masters):
        return ""
    rows = []
    for result in results:
        frame, most = result.masters, capacity_per_s(result)
        rate = result.case.rate_per_s
        rows.append(
            (result.case.name, len(frame), f"{most:,.0f}" if isfinite(most) else "any",
             f"{rate:,.4g}" if rate else "-", f"{frame['busy'].max():.0%}", f"{frame['longest_queue'].max():,}",
             _kills(result))
        )  # fmt: skip
    head = ("", "masters", "most requests/s", "asked requests/s", "busiest", "longest queue", "killed")
    lead = " ".join(_said(result) for result in results if _said(result)) or LEAD
    return section("Masters side by side", table(head, rows, numeric=(1, 2, 3, 4, 5)), lead=lead)


def _said(result: ServingResult) -> str:
    """A sentence where masters are the bottleneck, or one died."""
    rate, most = result.case.rate_per_s, capacity_per_s(result)
    name, queue = result.case.name, int(result.masters["longest_queue"].max())
    if rate is not None and rate > most:
        return (
            f"“{name}”: the masters saturate; {len(result.masters)} can pass on {most:,.0f} requests a second, "
            f"{rate:,.4g} come, and the queue grows to {queue:,} whatever the replicas could do."
        )  # fmt: skip
    dead = result.outages[(result.outages["kind"] == "master") & (result.outages["speed"] == 0.0)]
    if not len(dead):
        return ""
    first = dead.iloc[0]
    back = (
        f", all with a token {format_time(first['recovery_s'])} after the kill" if isfinite(first["recovery_s"]) else ""
    )
    return (
        f"“{name}”: {first['target']} dies at {format_time(first['start_s'])}; {int(first['taken_over']):,} requests "
        f"wait for the notice, {format_time(result.case.fleet.heartbeat_s)} later, and are taken over{back}."
    )  # fmt: skip


def _kills(result: ServingResult) -> str:
    dead = result.outages[(result.outages["kind"] == "master") & (result.outages["speed"] == 0.0)]
    return ", ".join(f"{row['target']} at {format_time(row['start_s'])}" for row in dead.head(3).to_dict("records"))
