"""Fit of expert dispatch and combine; the few figures of KV transfer are read, not fitted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.cost.collective.expert import Traffic, notify_seconds, seconds
from simulator.validation.table_exchange import Ask, ask_of
from simulator.validation.tables import read_table

Floats = NDArray[np.float64]
# name: start, least, most. A kernel of 20 us, 3 us for each doubling of the nodes and 1 us of the ranks in a node,
# two thirds of NVLink and 0.9 of the NIC; contention at most what an input-queued switch of random traffic loses at
# seven peers (0.62 of the line: Karol, Hluchyj, Morgan 1987, doi:10.1109/TCOM.1987.1096719) for each doubling; 25 GB/s
# and 0.1 us of a copy per SM (DeepEP's 160 GB/s over 8 of 20 SMs' copies), half of the SMs relay between nodes, 2 us to
# cast and send one token by one SM.
_RANGES: dict[str, tuple[float, float, float]] = {
    "base_s": (2e-5, 2e-6, 2e-4), "level_s": (3e-6, 1e-8, 5e-5), "rank_level_s": (1e-6, 1e-8, 5e-6),
    "token_s": (1e-9, 1e-11, 1e-6), "hidden_s": (1e-9, 1e-12, 6e-9), "scale_up_share": (0.67, 0.05, 1.0),
    "network_share": (0.9, 0.05, 1.0), "congestion": (0.3, 1e-3, 3.0), "queue_bytes": (5e7, 1e3, 2e9),
    "sm_token_s": (4e-7, 1e-9, 3e-6), "sm_copy_s": (3e-8, 1e-9, 3e-6), "sm_bytes_per_s": (2.5e10, 2e9, 1e12),
    "relay": (2.0, 1.0, 8.0), "sender_token_s": (2e-6, 1e-7, 1e-5),
}  # fmt: skip
KEYS = tuple(_RANGES)
_START, _LOW, _HIGH = (np.log([bounds[place] for bounds in _RANGES.values()]) for place in range(3))
_PULL = 0.05
_SHARPNESS = 10.0
_SM_KERNELS = ("deepep_normal", "deepep_elastic")
_FIRST = "hopper"
"""The generation whose kernels were measured on most node counts: others start from its fit and are pulled to it."""


def values_of(vector: Floats, kernel: str) -> dict[str, float]:
    """Parameters by name; SM terms only where the kernel has them."""
    values = dict(zip(KEYS, map(float, np.exp(vector)), strict=True))
    if kernel not in _SM_KERNELS:
        values["sm_bytes_per_s"] = 0.0
    if "low_latency" not in kernel:
        values["sender_token_s"] = 0.0
    return values


def log_times(asks: Sequence[Ask], sent: Sequence[Traffic], values: dict[str, float]) -> Floats:
    """Log seconds of each row."""
    pairs = zip(asks, sent, strict=True)
    return np.log([seconds(ask.links, values, bytes_, ask.tokens, ask.sms, ask.hidden) for ask, bytes_ in pairs])


def _start_of(like: dict[str, float] | None) -> Floats:
    if like is None:
        return np.asarray(_START)
    return np.log([like[key] or np.exp(start) for key, start in zip(KEYS, _START, strict=True)])


def fit_phase(
    kernel: str, asks: Sequence[Ask], times: Floats, like: dict[str, float] | None = None
) -> dict[str, float]:
    """The kernel's parameters for one phase on one generation; `error` is the median on these same rows.

    `like`: the parameters of another generation, to start from and be pulled to.
    """
    wanted = np.log(times)
    sent = [ask.traffic() for ask in asks]
    start = _start_of(like)

    def residuals(vector: Floats) -> Any:
        misses = (log_times(asks, sent, values_of(vector, kernel)) - wanted) * _SHARPNESS
        return np.concatenate([misses, (vector - start) * _PULL])

    inner = np.clip(start, _LOW + 1e-6, _HIGH - 1e-6)
    best = least_squares(residuals, inner, bounds=(_LOW, _HIGH), loss="soft_l1", max_nfev=60)
    values = values_of(best.x, kernel)
    miss = np.abs(np.expm1(log_times(asks, sent, values) - wanted))
    return {**values, "error": float(np.median(miss)), "rows": len(asks)}


# Two ranks' kernels of 15 us each way for a doubling of the nodes; a straggler of 2 %.
_NOTIFY_START = np.log([2.5e-5, 0.02])


def fit_notify(asks: Sequence[Ask], times: Floats, notify: Floats, values: dict[str, float]) -> dict[str, float]:
    """What the separate notify kernel costs, from the rows that have one (none: nothing is known of it)."""
    seen = np.isfinite(notify) & (notify > 0.0)
    if not seen.any():
        return {"notify_level_s": 0.0, "notify_share": 0.0}
    rows = [(ask.links, ask.traffic(), time) for ask, time, one in zip(asks, times, seen, strict=True) if one]

    def named(vector: Floats) -> dict[str, float]:
        return dict(zip(("notify_level_s", "notify_share"), map(float, np.exp(vector)), strict=True))

    def residuals(vector: Floats) -> Any:
        found = [notify_seconds(links, values | named(vector), sent, time) for links, sent, time in rows]
        misses = (np.log(found) - np.log(notify[seen])) * _SHARPNESS
        return np.concatenate([misses, (vector - _NOTIFY_START) * _PULL])

    return named(least_squares(residuals, _NOTIFY_START, loss="soft_l1", max_nfev=60).x)


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with what they ask, and their time: as measured, or from a bandwidth and the bytes that it counts."""
    asks = [ask_of(row) for row in frame.itertuples(index=False)]
    known = frame.assign(ask=pd.Series(asks, frame.index, dtype=object))
    known = known[[isinstance(ask, Ask) for ask in asks]].copy()
    counted = pd.Series([ask.traffic().counted_bytes for ask in known["ask"]], known.index)
    known["seconds"] = known.time_s.fillna(counted / known.bandwidth_bytes_per_s)
    known["block"] = [f"{a.kernel} {a.phase} {a.links.device.generation}" for a in known["ask"]]
    return known[known["seconds"] > 0]


def _of(block: str) -> tuple[str, str]:
    """Kernel with phase, and generation, of a block's name."""
    kernel, phase, generation = block.split()
    return f"{kernel} {phase}", generation


def fit_rows(known: pd.DataFrame) -> dict[str, dict[str, float]]:
    """A block of parameters for each kernel, phase and GPU generation in these rows."""
    blocks: dict[str, dict[str, float]] = {}
    for block in sorted(known.block.unique(), key=lambda name: (_of(name)[1] != _FIRST, name)):
        rows, (kind, _) = known[known.block == block], _of(block)
        asks, times = list(rows["ask"]), rows["seconds"].to_numpy(float)
        first = blocks.get(f"{kind} {_FIRST}")
        values = fit_phase(kind.split()[0], asks, times, first)
        notify = fit_notify(asks, times, rows["notify_time_s"].to_numpy(float), values)
        known_notify = notify if notify["notify_level_s"] or not first else {k: first[k] for k in notify}
        blocks[block] = values | known_notify
    return blocks


def cross_check(known: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Median error by kernel and phase of rows whose whole group was left out of the fit.

    A generation of which nothing is left is predicted by Hopper's block, as it would be when used.
    """
    misses: list[pd.Series[float]] = []
    kinds = known.block.str.rsplit(n=1).str[0]
    for group, rows in known.groupby("group_id"):
        mine = kinds.loc[rows.index]
        blocks = fit_rows(known[(known.group_id != group) & kinds.isin(mine.unique())])
        for block, part in rows.groupby("block"):
            values = blocks.get(str(block)) or blocks.get(f"{_of(str(block))[0]} {_FIRST}")
            if values is not None:
                asks = list(part["ask"])
                logs = log_times(asks, [ask.traffic() for ask in asks], values)
                wanted = np.log(part["seconds"].to_numpy(float))
                misses.append(pd.Series(np.abs(np.expm1(logs - wanted)), part.index))
    errors = pd.concat(misses) if misses else pd.Series(dtype=float)
    grouped = errors.groupby(kinds.loc[errors.index])
    sizes, medians = grouped.size(), grouped.median()
    return {str(k): {"rows": int(sizes[k]), "error": float(medians[k])} for k in sizes.index}


def fit_all(data: Path) -> dict[str, Any]:
    """The block `expert` of the data file, and the errors on groups that were left out."""
    known = measured(read_table(data, "expert_all_to_all"))
    return {"unseen_expert": cross_check(known), "expert": fit_rows(known)}
