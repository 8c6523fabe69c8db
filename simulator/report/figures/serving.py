"""A serving run over time, and its distributions."""

from typing import Any

import numpy as np
import pandas as pd

from simulator.metrics.serving_run import ServingResult
from simulator.report.figures.figure import Figure, axis, short, time_unit

COLOURS = ("@blue", "@orange", "@teal", "@violet", "@red", "@brown")
_POINTS = 400
LIMITS = {"ttft_s": "ttft_s", "tpot_s": "tpot_s", "e2el_s": "e2el_s"}


def _line(name: str, x: list[float], y: list[float], colour: str, unit: str, dash: str = "solid") -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y,
        "line": {"color": colour, "width": 1.8, "dash": dash},
        "hovertemplate": f"%{{x}}<br>{name}: %{{y}} {unit}<extra></extra>",
    }  # fmt: skip


def _clock(seconds: float) -> tuple[float, str]:
    """Factor and unit of a time axis."""
    if seconds >= 3.0 * 3600.0:
        return 1.0 / 3600.0, "hours"
    return (1.0 / 60.0, "minutes") if seconds >= 600.0 else (1.0, "seconds")


def _bands(result: ServingResult, factor: float) -> list[dict[str, Any]]:
    """Shades over the times in which something was down."""
    end = float(result.series["time_s"].iloc[-1])
    return [
        {
            "type": "rect", "xref": "x", "yref": "paper", "x0": float(start) * factor,
            "x1": min(float(stop), end) * factor, "y0": 0, "y1": 1, "line": {"width": 0}, "fillcolor": "@red",
            "opacity": 0.12, "layer": "below",
        }
        for start, stop in zip(result.outages["start_s"][:40], result.outages["end_s"][:40], strict=True)
    ]  # fmt: skip


def over_time(result: ServingResult) -> list[Figure]:
    """Rates, requests in the system, queues of the pools, KV memory."""
    series = result.series
    factor, unit = _clock(float(series["time_s"].iloc[-1]))
    x = short((series["time_s"] * factor).tolist(), 5)
    layout = {"xaxis": axis(unit), "shapes": _bands(result, factor), "hovermode": "x"}
    shaded = " Shaded: a fault." if len(result.outages) else ""

    def drawn(title: str, columns: list[tuple[str, str]], label: str, note: str, **more: Any) -> Figure:
        traces = [
            _line(name, x, short(series[column].tolist(), 4), COLOURS[i % len(COLOURS)], label)
            for i, (column, name) in enumerate(columns)
        ]
        return Figure(title, traces, {**layout, "yaxis": axis(label, rangemode="tozero", **more)}, note + shaded, 280)

    figures = [
        drawn("Requests a second", [("arrival_rate", "arriving"), ("finish_rate", "answered")], "requests/s",
              f"Over {len(series)} even parts of the run."),
        drawn("Requests in the system", [("in_system", "sent, not answered"), ("before_first_token", "no token yet")],
              "requests", "A number that grows to the end says that the fleet does not keep up."),
    ]  # fmt: skip
    masters = [column.split(":", 1)[1] for column in series.columns if column.startswith("queue:")]
    if masters:
        figures.append(drawn("At the masters", [(f"queue:{name}", name) for name in masters[:6]], "requests",
                             "Requests that wait for their dispatch, by the master that passed them on."))  # fmt: skip
    pools = [column.split(":", 1)[1] for column in series.columns if column.startswith("kv:")]
    if pools:
        queues = [(f"{what}:{pool}", f"{pool}: {word}" if len(pools) > 1 else word)
                  for pool in pools for what, word in (("running", "decoding"), ("waiting", "waiting"))]  # fmt: skip
        figures.append(drawn("At the replicas", queues, "requests", "Sequences that decode, and prompts that wait."))
        figures.append(_kv(result, pools, x, layout, shaded))
    return figures


def _kv(result: ServingResult, pools: list[str], x: list[float], layout: dict[str, Any], shaded: str) -> Figure:
    traces = [
        _line(pool, x, short((100.0 * result.series[f"kv:{pool}"]).tolist(), 4), COLOURS[i % len(COLOURS)], "%")
        for i, pool in enumerate(pools)
    ]
    return Figure(
        "KV memory in use", traces, {**layout, "yaxis": axis("% of pages", range=[0, 102]), "showlegend": True},
        "Of the fullest replica's fullest rank." + shaded, 280,
    )  # fmt: skip


def distributions(result: ServingResult) -> list[Figure]:
    """Cumulated shares of requests by TTFT, TPOT and E2EL, with the limits."""
    slo = result.case.slo
    titles = {"ttft_s": "Time to first token", "tpot_s": "Time per output token", "e2el_s": "End to end"}
    found = []
    for column, title in titles.items():
        values = result.requests[column].dropna().to_numpy(dtype=np.float64)
        if len(values):
            limit = None if slo is None else getattr(slo, LIMITS[column])
            found.append(_cdf(title, values, limit))
    if len(result.itl_s):
        found.insert(2, _cdf("Time between two tokens", result.itl_s, None, "tokens"))
    return found


def _cdf(
    title: str, values: "np.ndarray[Any, np.dtype[np.float64]]", limit_s: float | None, of: str = "requests"
) -> Figure:
    shares = np.linspace(0.0, 1.0, _POINTS + 1)
    points = np.quantile(values, shares)
    factor, unit = time_unit(float(np.quantile(values, 0.99)))
    trace = _line(title, short((points * factor).tolist(), 4), short((100.0 * shares).tolist(), 4), "@blue", "%")
    trace["hovertemplate"] = f"%{{y}}% within %{{x}} {unit}<extra></extra>"
    layout: dict[str, Any] = {
        "xaxis": axis(unit, rangemode="tozero"), "yaxis": axis(f"% of {of}", range=[0, 101]), "showlegend": False
    }  # fmt: skip
    if float(points[-1]) > 20.0 * max(float(np.quantile(values, 0.5)), 1e-9):
        layout["xaxis"] = axis(unit, type="log")
    if limit_s is not None:
        layout["shapes"] = [
            {"type": "line", "xref": "x", "yref": "paper", "x0": limit_s * factor, "x1": limit_s * factor, "y0": 0,
             "y1": 1, "line": {"color": "@red", "width": 1.5, "dash": "dot"}}
        ]  # fmt: skip
    note = "Dotted: the limit." if limit_s is not None else ""
    return Figure(title, [trace], layout, note, 300)


def comparison(results: list[ServingResult]) -> list[Figure]:
    """First token, time per token, tokens a GPU, and money, side by side."""
    names = [result.case.name for result in results]
    found = []
    for key, title in (("ttft", "Time to first token"), ("tpot", "Time per output token")):
        rows = pd.DataFrame(
            {
                word: [float(str(result.benchmark.get(f"{word}_{key}_ms", "nan"))) for result in results]
                for word in ("median", "p95", "p99")
            }
        )
        traces = [
            {"type": "bar", "name": word, "x": names, "y": short(rows[word].fillna(0.0).tolist(), 4),
             "marker": {"color": colour}, "hovertemplate": f"%{{x}}<br>{word}: %{{y}} ms<extra></extra>"}
            for word, colour in zip(rows.columns, ("@sky", "@blue", "@violet"), strict=True)
        ]  # fmt: skip
        most = float(np.nanmax(rows.to_numpy()))
        scale = {"type": "log"} if most > 50.0 * max(float(np.nanmin(rows.to_numpy())), 1e-6) else {}
        found.append(
            Figure(
                title, traces,
                {"barmode": "group", "yaxis": axis("ms", **scale), "xaxis": {"type": "category"},
                 "legend": {"y": 1.02, "yanchor": "bottom"}},
            )
        )  # fmt: skip
    for key, title, unit, colour in (
        ("output_tokens_per_s_per_gpu", "Output tokens a second and GPU", "tokens/s", "@teal"),
        ("usd_per_million_output_tokens", "Price of a million output tokens", "$", "@orange"),
    ):
        values = [result.figures[key] for result in results]
        if not np.isfinite(values).all():
            continue
        bars = {"type": "bar", "name": title, "x": names, "y": short(values, 4), "marker": {"color": colour},
                "hovertemplate": f"%{{x}}: %{{y}} {unit}<extra></extra>"}  # fmt: skip
        layout = {"yaxis": axis(unit), "xaxis": {"type": "category"}, "showlegend": False}
        found.append(Figure(title, [bars], layout))
    return found
