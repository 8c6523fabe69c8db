"""Several runs side by side."""

from collections.abc import Sequence
from typing import Any

from simulator.metrics.result import RunResult
from simulator.report import digest
from simulator.report.figures.figure import Figure, axis, byte_unit, short, time_unit
from simulator.report.figures.resources import GIB, LINK_COLOURS, MEMORY_PARTS

PHASE_COLOURS = {"prefill": "@sky", "decode": "@blue"}


def comparison(results: Sequence[RunResult]) -> list[Figure]:
    """Step times, communication's share, bytes by class of link, memory, and expert load."""
    times = [_times(results, phase) for phase in PHASE_COLOURS]
    return [*times, _shares(results), _bytes(results), _memory(results), *_imbalance(results)]


def _bars(name: str, names: list[str], values: list[float], colour: str, unit: str) -> dict[str, Any]:
    return {
        "type": "bar", "name": name, "x": names, "y": short(values, 4), "marker": {"color": colour},
        "hovertemplate": f"%{{x}}<br>{name}: %{{y}} {unit}<extra></extra>",
    }  # fmt: skip


def _names(results: Sequence[RunResult]) -> list[str]:
    return [result.name for result in results]


def _or_zero(value: float) -> float:
    return digest.finite(value) or 0.0


def _times(results: Sequence[RunResult], phase: str) -> Figure:
    times = [_or_zero(digest.step_time(result, phase)) for result in results]
    factor, unit = time_unit(max(times))
    bars = _bars(phase, _names(results), [time_s * factor for time_s in times], PHASE_COLOURS[phase], unit)
    layout = {"yaxis": axis(unit), "xaxis": {"type": "category"}, "showlegend": False}
    return Figure(f"Time of a {phase} step", [bars], layout)


def _shares(results: Sequence[RunResult]) -> Figure:
    traces = [
        _bars(phase, _names(results), [100 * _or_zero(digest.comm_share(r, phase)) for r in results], colour, "%")
        for phase, colour in PHASE_COLOURS.items()
    ]
    layout = {"barmode": "group", "yaxis": axis("% of a step", range=[0, 100]), "xaxis": {"type": "category"}}
    return Figure("Share of communication", traces, layout, "Not hidden behind compute.")


def _bytes(results: Sequence[RunResult]) -> Figure:
    sums = [digest.bytes_by_class(result) for result in results]
    factor, unit = byte_unit(max((value for each in sums for value in each.values()), default=1.0))
    classes = [name for name in LINK_COLOURS if any(name in each for each in sums)]
    traces = [
        _bars(name, _names(results), [each.get(name, 0.0) * factor for each in sums], LINK_COLOURS[name], unit)
        for name in classes
    ]
    layout = {
        "barmode": "group",
        "yaxis": axis(f"{unit}, logarithmic", type="log", dtick=1),
        "xaxis": {"type": "category"},
    }
    return Figure("Bytes by class of link", traces, layout, "Over the whole run, each link a message crosses counted.")


def _memory(results: Sequence[RunResult]) -> Figure:
    names = _names(results)
    traces = []
    for part, colour in MEMORY_PARTS:
        values = [_of_fullest(result, f"{part}_bytes") / GIB for result in results]
        traces.append(_bars(part.replace("_", " "), names, values, colour, "GiB"))
    capacity = {
        "type": "scatter", "mode": "markers", "name": "capacity", "x": names,
        "y": short([_of_fullest(result, "capacity_bytes") / GIB for result in results], 4),
        "marker": {"symbol": "line-ew", "size": 46, "color": "@ink", "line": {"width": 2, "color": "@ink"}},
        "hovertemplate": "capacity: %{y} GiB<extra></extra>",
    }  # fmt: skip
    layout = {"barmode": "stack", "yaxis": axis("GiB"), "xaxis": {"type": "category"}}
    return Figure("Memory of the fullest GPU", [*traces, capacity], layout)


def _of_fullest(result: RunResult, column: str) -> float:
    if result.memory.empty:
        return 0.0
    share = (result.memory["total_bytes"] / result.memory["capacity_bytes"]).to_numpy()
    return float(result.memory[column].iloc[int(share.argmax())])


def _imbalance(results: Sequence[RunResult]) -> list[Figure]:
    found = [digest.imbalance(result, digest.timed(result.ops)) for result in results]
    if all(each is None for each in found):
        return []
    kinds = (("experts, as priced", "expected", "@violet"), ("experts, by the miniature's router", "routed", "@orange"),
             ("ranks' time in experts", "time", "@lilac"))  # fmt: skip
    traces = [
        _bars(label, _names(results), [_or_zero(getattr(e, name)) if e else 0.0 for e in found], colour, "")
        for label, name, colour in kinds
    ]
    layout = {"barmode": "group", "yaxis": axis("busiest over mean"), "xaxis": {"type": "category"}}
    return [Figure("Load imbalance", traces, layout, "1 is even; a step waits for the busiest rank.")]
