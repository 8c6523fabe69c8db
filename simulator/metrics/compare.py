"""Figures side by side: predictions beside measurements, or one run beside another.

Names are those of `vllm bench serve` wherever it has one, so that a result file, a simulated benchmark and a plan meet
in the same words.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from simulator.errors import DataError

STATISTICS = ("mean", "median", "p90", "p95", "p99")
LATENCIES = ("ttft", "tpot", "itl", "e2el")
UNITS: Mapping[str, str] = {
    "gpus": "",
    "request_throughput": "requests/s",
    "request_goodput:": "requests/s",
    "output_throughput": "tokens/s",
    "total_token_throughput": "tokens/s",
    **{f"{s}_{name}_ms": "ms" for name in LATENCIES for s in STATISTICS},
    "prefill_s": "s",
    "decode_s": "s",
    "tokens_per_s": "tokens/s",
    "memory_share": "",
    "communication_share.prefill": "",
    "communication_share.decode": "",
    "usd_per_hour": "$",
    "usd_per_million_output_tokens": "$",
    "joules_per_output_token": "J",
}
"""Every figure that is compared, in the order in which it is shown."""
TRAFFIC = ("request_rate", "burstiness", "max_concurrency", "tokens in a request", "tokens out a request")
_PERCENTILE = re.compile(r"p\d+(\.\d+)?_(ttft|tpot|itl|e2el)_ms$")
TOLERANCE = 0.05
"""Traffic that differs by more than this part is remarked on."""


@dataclass(frozen=True, slots=True)
class Side:
    """One column: where its figures come from, and the traffic under which they hold."""

    name: str
    kind: Literal["measured", "predicted"]
    figures: Mapping[str, float]
    """Keys of UNITS."""
    traffic: Mapping[str, float] = field(default_factory=dict)
    """Keys of TRAFFIC; a rate of infinity is all at once."""
    model: str = ""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of a prediction: between what the figure is expected, by validated error."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of every side; None where a side has none."""

    name: str
    unit: str
    values: tuple[float | None, ...]
    ratios: tuple[float | None, ...]
    """Each value over the first side's."""
    inside: bool | None
    """Whether a measured first value lies in the second's interval; None where there is no such pair."""


def rows(sides: Sequence[Side]) -> tuple[Row, ...]:
    """The figures that the first side and another one share. Raises DataError where there is none."""
    found = []
    for name, unit in _order(sides):
        values = tuple(side.figures.get(name) for side in sides)
        first = values[0]
        if first is None or all(value is None for value in values[1:]):
            continue
        ratios = tuple(value / first if value is not None and first else None for value in values)
        found.append(Row(name, unit, values, ratios, _inside(name, sides)))
    if not found:
        given = " and ".join(side.name for side in sides)
        raise DataError(given=given, rule="have no figure in common", way_out=f"{sides[0].name} has {_known(sides[0])}")
    return tuple(found)


def _order(sides: Sequence[Side]) -> list[tuple[str, str]]:
    """Figures in the order of UNITS, then other percentiles that a side has."""
    others = dict.fromkeys(name for side in sides for name in side.figures if name not in UNITS)
    return [*UNITS.items(), *((name, "ms") for name in others)]


def _known(side: Side) -> str:
    return ", ".join(name for name in UNITS if name in side.figures) or "none that is known here"


def _inside(name: str, sides: Sequence[Side]) -> bool | None:
    interval = sides[1].intervals.get(name) if len(sides) > 1 else None
    if interval is None or sides[0].kind != "measured":
        return None
    return interval[0] <= sides[0].figures[name] <= interval[1]


def remarks(sides: Sequence[Side]) -> tuple[str, ...]:
    """Where the sides' traffic or models differ: then a ratio tells of that, too."""
    first, said = sides[0], []
    for side in sides[1:]:
        for name in TRAFFIC:
            a, b = first.traffic.get(name), side.traffic.get(name)
            if a is None or b is None or a == b:
                continue
            if not (isfinite(a) and isfinite(b)) or abs(b - a) > TOLERANCE * max(abs(a), abs(b)):
                said.append(f"{name}: {a:,.4g} in {first.name}, {b:,.4g} in {side.name}")
        if first.model and side.model and _short(first.model) != _short(side.model):
            said.append(f"model: {first.model} in {first.name}, {side.model} in {side.name}")
    return tuple(said)


def _short(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1].lower()


def from_benchmark(found: Mapping[str, Any], name: str, kind: Literal["measured", "predicted"] = "measured") -> Side:
    """A result of `vllm bench serve`, or a line of `sglang.bench_serving`.

    SGLang calls the end-to-end time e2e_latency (python/sglang/bench_serving.py, v0.5, 2025). Raises DataError for what
    holds no figure of either.
    """
    given = {_name(key): value for key, value in found.items()}
    if "total_token_throughput" not in given and {"input_throughput", "output_throughput"} <= given.keys():
        given["total_token_throughput"] = _number(given["input_throughput"]) + _number(given["output_throughput"])
    figures = {k: _number(v) for k, v in given.items() if v is not None and (k in UNITS or _PERCENTILE.match(k))}
    figures = {key: value for key, value in figures.items() if isfinite(value)}
    if not figures:
        raise DataError(where=name, given="", rule="holds no figure of vllm bench serve or sglang.bench_serving")
    traffic = {key: _number(given[key]) for key in TRAFFIC[:3] if given.get(key) not in (None, "")}
    completed = _number(given.get("completed", 0))
    for key, total in (("tokens in a request", "total_input_tokens"), ("tokens out a request", "total_output_tokens")):
        if completed and total in given:
            traffic[key] = _number(given[total]) / completed
    return Side(name, kind, figures, traffic, str(given.get("model_id") or ""))


def _name(key: str) -> str:
    """A client's key in the words used here."""
    return key.replace("_e2e_latency_ms", "_e2el_ms").replace("p50_", "median_")


def _number(value: Any) -> float:
    """A number, or the text "inf", which both clients write for a rate without a limit."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
