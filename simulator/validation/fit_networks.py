"""Fit of what the network between nodes adds: hop, growth of the hop, share of the NIC, by protocol and network."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.cost.collective.facts import PROTOCOLS
from simulator.cost.collective.parameters import NetworkStage, Parameters, Platform
from simulator.validation.fit_platforms import cells_of, predict

Floats = NDArray[np.float64]
NETWORKS = ("infiniband", "roce", "efa", "slingshot")
# Starting values: NCCL's own hop latencies over the network (2.7-5, 4-8.5, 14 us) less the wire's 2 us; LL and LL128
# seldom carry enough bytes to show their share, which starts at the protocol's overhead.
_START: Mapping[str, tuple[float, ...]] = {
    "ll": (3e-6, 5e-6, 2e4, 0.3, 0.02),
    "ll128": (6e-6, 8e-6, 1e5, 0.7, 0.02),
    "simple": (1.2e-5, 2e-5, 5e5, 0.92, 0.02),
}
_PULL = 0.15
_SHARPNESS = 10.0
_UPPER_SHARE = 0.98


def stages_from(vector: Floats) -> dict[str, NetworkStage]:
    """One network's stages from the logarithms of their parameters, protocol by protocol."""
    values = np.exp(vector).reshape(len(PROTOCOLS), 5)
    return {name: NetworkStage(*map(float, row)) for name, row in zip(PROTOCOLS, values, strict=True)}


def _limits(start: Floats) -> tuple[Floats, Floats]:
    low, high = start - np.log(100.0), start + np.log(100.0)
    # A hop grows by no more than what a few FIFO steps of 512 KiB take at the slowest NIC (21 us each).
    high[:, 1], high[:, 2] = np.log(1e-4), np.log(2.0**22)
    low[:, 3], high[:, 3] = np.log(0.005), np.log(_UPPER_SHARE)
    low[:, 4], high[:, 4] = np.log(1e-4), np.log(0.3)
    return low.ravel(), high.ravel()


def fit_network(
    name: str, rows: pd.DataFrame, platforms: Mapping[str, Platform], like: Mapping[str, NetworkStage] | None = None
) -> tuple[dict[str, NetworkStage], float]:
    """The network's stages, and their median relative error on these rows (nan where there are none).

    `like` are the stages of a network that was fitted before, to start from and be pulled to.
    """
    start = np.log(np.array([astuple(like[p]) if like else _START[p] for p in PROTOCOLS]))
    if rows.empty:
        return stages_from(start.ravel()), float("nan")
    cells = cells_of(rows)

    def parameters(vector: Floats) -> Parameters:
        stages = stages_from(vector)
        return Parameters(platforms, dict.fromkeys((name, *rows["network"]), stages), {}, {})

    def residuals(vector: Floats) -> Any:
        found = predict(cells, parameters(vector))
        misses = [(p - c.log_time) * c.weight * _SHARPNESS for p, c in zip(found, cells, strict=True)]
        return np.concatenate([*misses, (vector - start.ravel()) * _PULL])

    best = least_squares(residuals, start.ravel(), bounds=_limits(start), loss="soft_l1", max_nfev=100)
    found = predict(cells, parameters(best.x))
    miss = np.concatenate([np.abs(np.expm1(p - c.log_time)) for p, c in zip(found, cells, strict=True)])
    return stages_from(best.x), float(np.median(miss))
