"""A rate of requests that changes over the day: a non-homogeneous Poisson process, or recorded windows."""

from collections.abc import Sequence
from math import isfinite

import numpy as np

from simulator.errors import WorkloadError
from simulator.workload.requests import Floats

Point = tuple[float, float]
"""(seconds, requests a second then)."""


def expected_count(points: Sequence[Point], time_s: Floats) -> Floats:
    """Requests expected by each time: the integral of the rate, linear between points and constant after the last.

    Raises WorkloadError for fewer than two points, times that do not ascend from 0, and rates that are negative, not
    finite, or 0 throughout.
    """
    times, rates, sums = _checked(points)
    place = np.clip(np.searchsorted(times, time_s, side="right") - 1, 0, len(times) - 1)
    since = time_s - times[place]
    return np.asarray(sums[place] + since * (rates[place] + 0.5 * _slopes(times, rates)[place] * since))


def curve_arrivals(rng: np.random.Generator, points: Sequence[Point], count: int | None = None) -> Floats:
    """Times of arrival of a Poisson process whose rate is linear between `points`.

    By inversion: a Poisson process of rate 1 on the axis of expected counts, mapped back to time (Cinlar 1975,
    Introduction to Stochastic Processes, theorem 4.7.4). `count` None: all up to the last point; else so many, at the
    last point's rate after it. Raises WorkloadError as `expected_count`, and for a last rate of 0 that is to go on.
    """
    times, rates, sums = _checked(points)
    total = float(sums[-1])
    if count is None:
        drawn = np.sort(rng.uniform(0.0, total, rng.poisson(total)))
    else:
        drawn = np.cumsum(rng.exponential(1.0, count))
        if drawn[-1] > total and rates[-1] == 0.0:
            raise WorkloadError(
                where="rate curve", given=f"{count} requests", rule=f"about {total:.0f} come before its rate ends at 0",
                way_out="ask for fewer requests, or leave the number out",
            )  # fmt: skip
    place = np.clip(np.searchsorted(sums, drawn, side="right") - 1, 0, len(times) - 1)
    rate, slope, owed = rates[place], _slopes(times, rates)[place], drawn - sums[place]
    # The stable root of rate t + slope t^2 / 2 = owed.
    root = rate + np.sqrt(np.maximum(rate * rate + 2.0 * slope * owed, 0.0))
    since = np.divide(2.0 * owed, root, out=np.zeros_like(owed), where=root > 0.0)
    return np.asarray(np.maximum.accumulate(times[place] + since), dtype=np.float64)


def day_curve(low_per_s: float, high_per_s: float, peak_hour: float = 15.0, hours: float = 24.0) -> list[Point]:
    """A day between a nightly and a peak rate: a raised cosine in steps of 15 minutes.

    Services peak in the afternoon and fall to a third or less at night (Azure LLM traces, 2024; arXiv:2408.00741).
    """
    at = np.arange(0.0, hours * 4.0 + 1.0) / 4.0
    share = 0.5 + 0.5 * np.cos((at - peak_hour) / 24.0 * 2.0 * np.pi)
    rates = low_per_s + (high_per_s - low_per_s) * share
    return [(float(hour) * 3600.0, float(rate)) for hour, rate in zip(at, rates, strict=True)]


def _checked(points: Sequence[Point]) -> tuple[Floats, Floats, Floats]:
    """Times, rates, and requests expected by each time."""
    if len(points) < 2:
        raise WorkloadError(where="rate curve", given=f"{len(points)} points", rule="needs at least two")
    for index, (time_s, rate) in enumerate(points):
        if not (isfinite(rate) and rate >= 0.0):
            raise WorkloadError(
                where=f"rate curve: point {index}", given=f"{rate:g}", rule="a rate is finite, not negative"
            )
        first = 0.0 if index == 0 else points[index - 1][0]
        if not isfinite(time_s) or (time_s <= first if index else time_s != 0.0):
            raise WorkloadError(
                where=f"rate curve: point {index}", given=f"{time_s:g} s", rule="times ascend, the first is 0"
            )
    times = np.array([point[0] for point in points])
    rates = np.array([point[1] for point in points])
    if not rates.any():
        raise WorkloadError(where="rate curve", given="0 everywhere", rule="some rate must be above 0")
    sums = np.concatenate(([0.0], np.cumsum(np.diff(times) * 0.5 * (rates[1:] + rates[:-1]))))
    return times, rates, sums


def _slopes(times: Floats, rates: Floats) -> Floats:
    return np.append(np.diff(rates) / np.diff(times), 0.0)
