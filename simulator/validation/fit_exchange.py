"""Fit of expert dispatch and combine; the few figures of KV transfer are read, not fitted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.cost.collective.expert import Traffic, seconds
from simulator.validation.table_exchange import Ask, ask_of
from simulator.validation.tables import read_table

Floats = NDArray[np.float64]
KEYS = (
    "base_s", "level_s", "token_s", "scale_up_share", "network_share", "congestion", "sm_bytes_per_s", "sender_token_s",
    "relay", "hidden_s",
)  # fmt: skip
# Start: a kernel of 15 us, 3 us for each doubling of the nodes, half of NVLink and 0.9 of the NIC, 20 GB/s per SM
# (DeepEP's 160 GB/s over 8 of 20 SMs' copies), 2 us to cast and send one token by one SM.
_START = np.log([1.5e-5, 3e-6, 1e-9, 0.6, 0.9, 0.05, 2e10, 2e-6, 2.0, 1e-10])
_LOW = np.log([2e-6, 1e-8, 1e-11, 0.05, 0.05, 1e-3, 2e9, 1e-7, 0.5, 1e-12])
_HIGH = np.log([2e-4, 5e-5, 1e-6, 1.0, 1.0, 2.0, 1e12, 1e-5, 8.0, 6e-9])
_PULL = 0.05
_SHARPNESS = 10.0


def values_of(vector: Floats, kernel: str) -> dict[str, float]:
    """Parameters by name; SM terms only where the kernel has them."""
    values = dict(zip(KEYS, map(float, np.exp(vector)), strict=True))
    if kernel not in ("deepep_normal", "deepep_elastic"):
        values["sm_bytes_per_s"] = 0.0
    if "low_latency" not in kernel:
        values["sender_token_s"] = 0.0
    return values


def log_times(asks: Sequence[Ask], sent: Sequence[Traffic], values: dict[str, float]) -> Floats:
    """Log seconds of each row."""
    pairs = zip(asks, sent, strict=True)
    return np.log([seconds(ask.links, values, bytes_, ask.tokens, ask.sms, ask.hidden) for ask, bytes_ in pairs])


def fit_phase(kernel: str, asks: Sequence[Ask], times: Floats) -> dict[str, float]:
    """The kernel's parameters for one phase on one generation; `error` is the median on these same rows."""
    wanted = np.log(times)
    sent = [ask.traffic() for ask in asks]

    def residuals(vector: Floats) -> Any:
        misses = (log_times(asks, sent, values_of(vector, kernel)) - wanted) * _SHARPNESS
        return np.concatenate([misses, (vector - _START) * _PULL])

    best = least_squares(residuals, _START, bounds=(_LOW, _HIGH), loss="soft_l1", max_nfev=60)
    values = values_of(best.x, kernel)
    miss = np.abs(np.expm1(log_times(asks, sent, values) - wanted))
    return {**values, "error": float(np.median(miss)), "rows": len(asks)}


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with what they ask, and their time: as measured, or from a bandwidth and the bytes that it counts."""
    asks = [ask_of(row) for row in frame.itertuples(index=False)]
    known = frame.assign(ask=pd.Series(asks, frame.index, dtype=object))
    known = known[[isinstance(ask, Ask) for ask in asks]].copy()
    counted = pd.Series([ask.traffic().counted_bytes for ask in known["ask"]], known.index)
    known["seconds"] = known.time_s.fillna(counted / known.bandwidth_bytes_per_s)
    known["block"] = [f"{a.kernel} {a.phase} {a.links.device.generation}" for a in known["ask"]]
    return known[known["seconds"] > 0]


def fit_rows(known: pd.DataFrame) -> dict[str, dict[str, float]]:
    """A block of parameters for each kernel, phase and GPU generation in these rows."""
    blocks: dict[str, dict[str, float]] = {}
    for block, rows in known.groupby("block"):
        blocks[str(block)] = fit_phase(str(block).split()[0], list(rows["ask"]), rows["seconds"].to_numpy(float))
    return blocks


def cross_check(known: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Median error by kernel and phase of rows whose whole group was left out of the fit."""
    misses: list[pd.Series[float]] = []
    for group, rows in known.groupby("group_id"):
        blocks = fit_rows(known[(known.group_id != group) & known.block.isin(rows.block.unique())])
        for block, mine in rows[rows.block.isin(list(blocks))].groupby("block"):
            asks = list(mine["ask"])
            logs = log_times(asks, [ask.traffic() for ask in asks], blocks[str(block)])
            misses.append(pd.Series(np.abs(np.expm1(logs - np.log(mine["seconds"].to_numpy(float)))), mine.index))
    errors = pd.concat(misses) if misses else pd.Series(dtype=float)
    by_block = errors.groupby(known.loc[errors.index, "block"].str.rsplit(n=1).str[0])
    return {str(k): {"rows": len(e), "error": float(e.median())} for k, e in by_block}


def fit_all(data: Path) -> dict[str, Any]:
    """The block `expert` of the data file, and the errors on groups that were left out."""
    known = measured(read_table(data, "expert_all_to_all"))
    return {"unseen_expert": cross_check(known), "expert": fit_rows(known)}
