"""Fit of what the network between nodes adds: hop, growth of the hop, share of the NIC, by protocol and network.

One fit over all networks comes first, each network weighing alike; every network is then pulled to it, so that a
few rows move only what they show and a network without rows is the common one on its own link facts.
"""

from collections.abc import Mapping
from dataclasses import astuple, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.cost.collective.facts import PROTOCOLS
from simulator.cost.collective.parameters import CROSSED, NetworkStage, Parameters, Platform
from simulator.validation.fit_platforms import cells_of, predict

Floats = NDArray[np.float64]
NETWORKS = ("infiniband", "roce", "efa", "slingshot", "slingshot" + CROSSED)
# Starting values: NCCL's own hop latencies over the network (2.7-5, 4-8.5, 14 us) less the wire's 2 us; LL and LL128
# seldom carry enough bytes to show their share, which starts at the protocol's overhead.
_START: Mapping[str, tuple[float, ...]] = {
    "ll": (3e-6, 3e-6, 2e3, 5e-6, 2e4, 0.3, 0.02, 0.02),
    "ll128": (6e-6, 1e-6, 2e3, 8e-6, 1e5, 0.7, 0.02, 0.02),
    "simple": (1.2e-5, 1e-6, 2e3, 2e-5, 5e5, 0.92, 0.02, 0.02),
}
_TOGETHER = {"infiniband": ("infiniband", "roce"), "roce": ("infiniband", "roce")}
_WIDTH = len(fields(NetworkStage))
_PULL = 0.15
_SHARPNESS = 10.0
_ALIKE = 50.0
"""Rows that a network counts for at most where several are fitted together."""
_UPPER_SHARE = 0.98


def stages_from(vector: Floats) -> dict[str, NetworkStage]:
    """One network's stages from the logarithms of their parameters, protocol by protocol."""
    values = np.exp(vector).reshape(len(PROTOCOLS), _WIDTH)
    return {name: NetworkStage(*map(float, row)) for name, row in zip(PROTOCOLS, values, strict=True)}


def fit_networks(
    rows: pd.DataFrame, platforms: Mapping[str, Platform]
) -> tuple[dict[str, dict[str, NetworkStage]], dict[str, dict[str, float]]]:
    """Stages of every network from these rows across nodes, and rows and error of each.

    RoCE and InfiniBand run on the same NICs and share their rows; rings that cross rails are fitted apart, pulled to
    those of the same network that do not.
    """
    crossed = np.array([links.crosses_rails for links in rows["links"]], dtype=bool)
    common, _ = fit_network("common", rows[~crossed], platforms)
    found: dict[str, dict[str, NetworkStage]] = {}
    errors: dict[str, dict[str, float]] = {}
    for name in NETWORKS:
        kind = name.removesuffix(CROSSED)
        mine = rows.network.isin(_TOGETHER.get(kind, (kind,))) & (crossed == name.endswith(CROSSED))
        found[name], error = fit_network(kind, rows[mine], platforms, found.get(kind, common))
        errors[name] = {"rows": int(mine.sum()), "error": error}
    return found, errors


def _limits() -> tuple[Floats, Floats]:
    start = np.log(np.array([_START[p] for p in PROTOCOLS]))
    low, high = start - np.log(100.0), start + np.log(100.0)
    # A hop grows by no more than what a few FIFO steps of 512 KiB take at the slowest NIC (21 us each).
    high[:, 1], high[:, 3], high[:, 4] = np.log(1e-4), np.log(5e-4), np.log(2.0**23)
    low[:, 2], high[:, 2] = np.log(2.0**8), np.log(2.0**16)
    low[:, 5], high[:, 5] = np.log(0.005), np.log(_UPPER_SHARE)
    low[:, 6:], high[:, 6:] = np.log(1e-4), np.log(0.5)
    return low.ravel(), high.ravel()


def fit_network(
    name: str, rows: pd.DataFrame, platforms: Mapping[str, Platform], like: Mapping[str, NetworkStage] | None = None
) -> tuple[dict[str, NetworkStage], float]:
    """The network's stages, and their median relative error on these rows (nan where there are none).

    `like` are the stages of a network that was fitted before, to start from and be pulled to.
    """
    low, high = _limits()
    start = np.log(np.array([astuple(like[p]) if like else _START[p] for p in PROTOCOLS])).ravel()
    start = np.clip(start, low, high)
    if rows.empty:
        return stages_from(start), float("nan")
    cells = cells_of(rows)
    counts = rows.groupby("network").size()
    balance = [min(1.0, (_ALIKE / counts[c.links.network]) ** 0.5) if len(counts) > 1 else 1.0 for c in cells]

    def parameters(vector: Floats) -> Parameters:
        stages = stages_from(vector)
        names = set(rows["network"])
        return Parameters(platforms, dict.fromkeys((name, *names, *(n + CROSSED for n in names)), stages), {}, {})

    def residuals(vector: Floats) -> Any:
        found = predict(cells, parameters(vector))
        misses = [(p - c.log_time) * c.weight * b * _SHARPNESS for p, c, b in zip(found, cells, balance, strict=True)]
        return np.concatenate([*misses, (vector - start) * _PULL])

    inner = np.clip(start, low + 1e-6, high - 1e-6)
    best = least_squares(residuals, inner, bounds=(low, high), loss="soft_l1", max_nfev=100)
    found = predict(cells, parameters(best.x))
    miss = np.concatenate([np.abs(np.expm1(p - c.log_time)) for p, c in zip(found, cells, strict=True)])
    return stages_from(best.x), float(np.median(miss))
