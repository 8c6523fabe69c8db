"""Kernel tables against predictions: `predict(frame, context)` for rows with the columns of `kernels.csv`."""

from collections.abc import Callable, Hashable, Mapping
from math import isfinite

import numpy as np
import pandas as pd

from simulator.cost.kernel import choose
from simulator.cost.kernel.parameters import Fit, fitted
from simulator.cost.kernel.rows import FAMILIES, Family
from simulator.errors import DataError, ShardsimError
from simulator.hardware.catalogue import find_device

REQUIRED: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "context_attention": ("batch_size", "seq_len", "num_heads", "num_kv_heads", "head_dim"),
    "generation_attention": ("batch_size", "past_kv_len", "num_heads", "num_kv_heads", "head_dim"),
    "context_mla": ("batch_size", "seq_len", "num_heads"),
    "generation_mla": ("batch_size", "past_kv_len", "num_heads"),
    "moe": ("num_tokens", "hidden", "inter_size", "topk", "experts", "moe_tp", "moe_ep"),
}
"""Sizes an op's model reads; each must be stated and positive (a cache may be empty)."""
_MAY_BE_ZERO = {"past_kv_len"}
_COLUMNS = ("op", "gpu", "backend", "dtype")


def predict(frame: pd.DataFrame, context: object = None) -> pd.DataFrame:
    """Predicted kernel times on the index of `frame`; neither outcome columns nor `context` are read.

    Columns: predicted_time_s (NaN where not covered), provenance ("fitted" or "roofline"), expected_error,
    not_covered_because ("" where covered), group ("gpu/op/dtype").
    Raises DataError for a frame without the columns op, gpu, backend and dtype.
    """
    del context
    missing = [name for name in _COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(
            where="kernels", given=f"no column {', '.join(missing)}", rule="columns are those of kernels.csv"
        )
    rows = frame.to_dict("records")
    result = pd.DataFrame(
        {
            "predicted_time_s": np.nan,
            "provenance": "",
            "expected_error": np.nan,
            "not_covered_because": [_refusal(row) for row in rows],
            "group": [f"{row['gpu']}/{row['op']}/{row['dtype']}" for row in rows],
        },
        index=frame.index,
    )
    covered = (result["not_covered_because"] == "").to_numpy()
    for op, family in FAMILIES.items():
        chosen = np.flatnonzero(covered & (frame["op"] == op).to_numpy())
        if len(chosen):
            _fill(result, chosen, _complete(frame.iloc[chosen]), family)
    return result


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the columns that a source may leave out."""
    full = frame.copy()
    absent: tuple[tuple[str, str | float], ...] = (
        ("kernel_source", ""),
        ("window_size", 0.0),
        ("kv_dtype", "bfloat16"),
        ("distribution", "balanced"),
    )
    for name, value in absent:
        if name not in full.columns:
            full[name] = value
    return full


def _fill(result: pd.DataFrame, places: np.ndarray, frame: pd.DataFrame, family: Family) -> None:
    fits = [fitted(family.name, family.key(row)) for row in frame.to_dict("records")]
    names = np.array([fit.name for fit in fits])
    for name in dict.fromkeys(names):
        rows = np.flatnonzero(names == name)
        fit: Fit = fits[rows[0]]
        case = family.case(frame.iloc[rows])
        times = np.maximum(case.model(fit.parameters), case.bound_s)
        where = result.index[places[rows]]
        own = [fits[r] for r in rows]
        result.loc[where, "predicted_time_s"] = times
        result.loc[where, "provenance"] = ["roofline" if f.borrowed else "fitted" for f in own]
        result.loc[where, "expected_error"] = [f.error for f in own]


def _refusal(row: Mapping[Hashable, object]) -> str:
    """Why a row cannot be predicted; empty: it can."""
    op = str(row["op"])
    if op not in FAMILIES:
        return f"op {op} has no model; there are {', '.join(FAMILIES)}"
    for name in REQUIRED[op]:
        value = _number(row.get(name))
        if value is None or value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
            return f"{name} is {row.get(name)}: sizes must be stated and positive"
    try:
        generation = find_device(str(row["gpu"])).generation
        if not choose.lends(generation):
            return f"{row['gpu']}: the models describe NVIDIA tensor cores, not {generation}"
        probe: Callable[[dict[Hashable, object]], object] = FAMILIES[op].key
        probe(dict(row))
    except ShardsimError as error:
        return str(error)
    if op == "moe" and int(_number(row["experts"]) or 0) % int(_number(row["moe_ep"]) or 1):
        return f"{row['experts']} experts do not divide over {row['moe_ep']} ranks"
    return ""


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if isfinite(number) else None
