"""Times of arrival in an open loop: clients that do not wait for answers. All start at 0 and are in seconds."""

from math import isfinite

import numpy as np

from simulator.errors import WorkloadError
from simulator.workload.requests import Floats


def poisson_arrivals(rng: np.random.Generator, rate_per_s: float, count: int) -> Floats:
    """Exponential gaps of mean 1 / rate."""
    return gamma_arrivals(rng, rate_per_s, 1.0, count)


def gamma_arrivals(rng: np.random.Generator, rate_per_s: float, burstiness: float, count: int) -> Floats:
    """Gamma gaps of mean 1 / rate and shape `burstiness`: 1 is Poisson, below 1 comes in bursts, above 1 evenly.

    `vllm bench serve --burstiness` means the same. Raises WorkloadError unless both are positive and finite.
    """
    _positive("request rate", rate_per_s)
    _positive("burstiness", burstiness)
    gaps = rng.gamma(burstiness, 1.0 / (rate_per_s * burstiness), count)
    return np.asarray(np.cumsum(gaps), dtype=np.float64)


def constant_arrivals(rate_per_s: float, count: int) -> Floats:
    """Equal gaps, the first request at 0."""
    _positive("request rate", rate_per_s)
    return np.arange(count, dtype=np.float64) / rate_per_s


def _positive(where: str, value: float) -> None:
    if not (isfinite(value) and value > 0.0):
        raise WorkloadError(where=where, given=f"{value:g}", rule="must be positive and finite")
