"""Fit of the engines' own all_reduce kernels: starting times, a time per peer, and shares of the link."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.cost.collective import custom
from simulator.cost.collective.parameters import CustomKernel, Parameters, Platform

Floats = NDArray[np.float64]
# one_shot_s, two_shot_s, rank_s, one-shot share, two-shot share, multicast_s, multicast share: a kernel launch and a
# barrier of 4 us, a flag per peer, and shares as a copy kernel reaches.
_START = np.log([4e-6, 8e-6, 0.1e-6, 0.6, 0.6, 8e-6, 0.5])
_LOW = np.log([1e-6, 2e-6, 1e-9, 0.05, 0.05, 2e-6, 0.05])
_HIGH = np.log([1e-4, 1e-4, 2e-6, 1.0, 1.0, 1e-4, 1.0])
_PULL = 0.05
_SHARPNESS = 10.0


def kernel_from(vector: Floats, error: float) -> CustomKernel:
    """The kernel with these logarithms of parameters."""
    one, two, rank, share_one, share_two, multicast, share_multicast = map(float, np.exp(vector))
    return CustomKernel(one, two, rank, share_one, share_two, multicast, share_multicast, error)


def predict_rows(rows: pd.DataFrame, library: str, parameters: Parameters) -> Floats:
    """Log seconds of graph rows of one engine, aligned on `rows`."""
    found = np.empty(len(rows))
    for number in rows["links_id"].unique():
        on = (rows["links_id"] == number).to_numpy()
        links = rows["links"].to_numpy()[on][0]
        found[on] = custom.times(links, library, None, rows.message_bytes.to_numpy(float)[on], parameters)
    return np.log(found)


def fit_kernel(library: str, platform: str, rows: pd.DataFrame, platforms: Mapping[str, Platform]) -> CustomKernel:
    """The engine's kernels on one platform; `error` is the median on these same rows."""
    log_time = np.log(rows.time_s.to_numpy(float))
    repeats = rows.groupby(["links_id", "message_bytes"]).time_s.transform("size").to_numpy(float)

    def parameters(vector: Floats, error: float = 0.0) -> Parameters:
        return Parameters(platforms, {}, {library: {platform: kernel_from(vector, error)}}, {})

    def residuals(vector: Floats) -> Any:
        misses = (predict_rows(rows, library, parameters(vector)) - log_time) / np.sqrt(repeats) * _SHARPNESS
        return np.concatenate([misses, (vector - _START) * _PULL])

    best = least_squares(residuals, _START, bounds=(_LOW, _HIGH), loss="soft_l1", max_nfev=60)
    miss = np.abs(np.expm1(predict_rows(rows, library, parameters(best.x)) - log_time))
    return kernel_from(best.x, float(np.median(miss)))
