"""Predictions of wide_ep_production.csv: published rates, times and costs of wide expert parallelism.

A rate is what a pool does at its stated batch when it is busy; fleets' averages over a day hold idle time that no row
tells. Prices, traffic and sizes of a fleet are facts its operators report, and are refused as such.
"""

import re
from dataclasses import replace
from typing import Any

import pandas as pd

from simulator.cost.collective import expert_all_to_all_price
from simulator.errors import ModelError, ShardsimError
from simulator.validation.answer import empty_answer, refuse
from simulator.validation.context import Context
from simulator.validation.links import group_links, text
from simulator.validation.wide_ep_step import Timing, mixture_of, timing
from simulator.validation.wide_ep_text import Phase, WideRow, first_number, phase_of, pool_gpus, read_row

OUTCOMES = ("value", "tokens_per_s_per_gpu")
DOLLARS_PER_HOUR = 2.0
"""Lease price of a GPU that these reports reckon with (DeepSeek's overview, 2025-02-28)."""
SMALL_BATCH = 32
"""Tokens of the small-batch ablations, where the row's words name none."""
_REPORTED = re.compile(r"nodes|price|revenue|margin|daily cost|tokens 24h|kv length|hit rate", re.IGNORECASE)


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """The value of each row in its own unit, and tokens a second and GPU where it is a rate."""
    answer = empty_answer(frame, OUTCOMES, frame["metric"].astype(str))
    for index, row in zip(frame.index, frame.itertuples(), strict=True):
        try:
            found = answer_of(row, context)
        except ShardsimError as error:
            found = str(error)
        if isinstance(found, str):
            refuse(answer, pd.Index([index]), found)
            continue
        value, rate = found
        answer.loc[index, ["predicted_value", "predicted_tokens_per_s_per_gpu"]] = value, rate
        answer.loc[index, "provenance"] = "fitted"
    return answer


def model_of(name: str, context: Context) -> str:
    """The model that a report names; of several ("DeepSeek-V3/R1") the first that is known."""
    parts = name.split("/")
    for candidate in (name, *parts, *(f"{parts[0].rsplit('-', 1)[0]}-{part}" for part in parts[1:])):
        try:
            context.model(candidate)
        except ModelError:
            continue
        return candidate
    context.model(name)
    return name


def answer_of(row: Any, context: Context) -> tuple[float, float] | str:
    """(value, tokens a second and GPU or NaN) of a row, or why it is none that a step's time can tell."""
    metric, unit = text(row.metric).lower(), text(row.unit).lower()
    if _REPORTED.search(metric):
        return "a fleet's traffic, size or prices, which its operators report: not a time or a rate"
    if "eplb" in metric:
        return "how busy each expert is without balancing is not stated"
    model = model_of(text(row.model), context)
    if "dispatch" in metric or "combine" in metric:
        return _exchange(row, model, metric, unit, context)
    phase = phase_of(row)
    if phase is None:
        return "does not say whether prefill or decode"
    pool = read_row(row, phase)
    asked = first_number(r"bs\s?(\d+)", metric)
    if asked:
        pool = replace(pool, tokens=asked)
    return _value(row, pool, timing(pool, model, text(row.gpu), text(row.framework), context), metric, unit)


def _value(row: Any, pool: WideRow, step: Timing, metric: str, unit: str) -> tuple[float, float] | str:
    nan = float("nan")
    rate = step.tokens / step.step_s / (1.0 - pool.cached)
    if "gain" in metric or "change" in metric:
        return 100.0 * (step.plain_s / step.overlapped_s - 1.0), nan
    if "$" in unit:
        return DOLLARS_PER_HOUR / 3600.0 / rate * 1e6, nan
    if unit in ("s", "ms"):
        scale = 1e3 if unit == "ms" else 1.0
        if pool.phase == "prefill":
            # A prompt runs at once, or waits for the step that has just begun.
            return scale * step.step_s * (2.0 if "high" in metric or "p99" in metric else 1.0), nan
        return scale * step.step_s * step.batch / step.tokens, nan
    if "tok" not in unit:
        return f"unit {unit} is none of a rate, a time or a cost"
    if "per request" in metric or "user" in unit or "user" in metric:
        return rate / step.batch, nan
    return rate * _gpus_in(row, unit, pool), rate


def _gpus_in(row: Any, unit: str, pool: WideRow) -> float:
    """GPUs that a rate's unit counts."""
    if "gpu" in unit:
        return 1.0
    if "node" in unit:
        found = first_number(r"node \((\d+) GPU", text(row.metric))
        gpus, nodes = (float(x) if pd.notna(x) else 0.0 for x in (row.gpus, row.nodes))
        return float(found) or (gpus / nodes if gpus and nodes else 8.0)
    return float(pool_gpus(row, pool.phase) or pool.ep)


def _exchange(row: Any, model: str, metric: str, unit: str, context: Context) -> tuple[float, float] | str:
    """Time of one exchange alone."""
    if "actual" in metric:
        return "how long ranks wait for each other in a run is not stated"
    phase: Phase = "prefill" if "prefill" in metric else "decode"
    pool, architecture = read_row(row, phase), context.model(model)
    experts = mixture_of(architecture)
    price = expert_all_to_all_price(
        group_links(text(row.gpu), pool.ep, pool.node), phase="combine" if "combine" in metric else "dispatch",
        kernel="deepep_low_latency" if phase == "decode" else "deepep_normal",
        tokens_per_rank=first_number(r"bs\s?(\d+)", metric) or SMALL_BATCH, hidden=architecture.hidden,
        topk=experts.top_k, experts=experts.experts,
    )  # fmt: skip
    scale = {"ms": 1e3, "us": 1e6, "s": 1.0}.get(unit)
    return f"unit {unit} is no time" if scale is None else (price.time_s * scale, float("nan"))
