"""A run over time, on an even grid: rates, requests in the system, queues, KV occupancy."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.engine.fleet import FleetServed
from simulator.metrics.serving_case import ServingCase
from simulator.metrics.serving_pools import replicas_of

Floats = NDArray[np.float64]
MOST_BINS, FEWEST_BINS = 240, 24
REQUESTS_A_BIN = 8
"""Enough that a rate is not a comb; fewer parts where fewer requests came."""
SERIES_COLUMNS = ("time_s", "arrival_rate", "finish_rate", "output_rate", "in_system", "before_first_token")
"""time_s: middle of a bin; rates a second over the bin (output_rate: of answered tokens, spread evenly over each
answer); in_system: requests sent and not finished; before_first_token: of these, without their first token. Then for
every pool NAME: waiting:NAME and running:NAME (sequences decoding, over all replicas), kv:NAME (share of the pages of
the fullest replica's fullest rank); these need the log of steps. For every master NAME that takes time to dispatch,
queue:NAME (requests that it holds, by who dispatched them in the end; without those that a fault sent back)."""


def series_frame(case: ServingCase, served: FleetServed, steps: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """One row a bin. Columns are SERIES_COLUMNS, and three a pool."""
    bins = int(np.clip(len(served.arrival_s) / REQUESTS_A_BIN, FEWEST_BINS, MOST_BINS))
    edges = np.linspace(0.0, seconds, bins + 1)
    middle, width = 0.5 * (edges[1:] + edges[:-1]), seconds / bins
    came, gone, began = np.sort(served.arrival_s), np.sort(served.finish_s), np.sort(served.first_token_s)

    def until(times: Floats, at: Floats) -> Floats:
        return np.asarray(np.searchsorted(times, at, side="right"), dtype=np.float64)

    columns: dict[str, Floats] = {
        "time_s": middle,
        "arrival_rate": np.histogram(came, edges)[0] / width,
        "finish_rate": np.histogram(gone, edges)[0] / width,
        "output_rate": np.diff(_emitted(served, edges)) / width,
        "in_system": until(came, middle) - until(gone, middle),
        "before_first_token": until(came, middle) - until(began, middle),
    }
    if len(steps):
        for pool in case.pools:
            columns |= _pool(pool.name, [int(i) for i in replicas_of(case, pool)], pool.kv_blocks, steps, middle)
    before = case.requests.before_s
    reached = served.arrival_s if before is None else served.arrival_s + before[served.number]
    for index, spec in enumerate(case.fleet.masters):
        if spec.dispatch_s:
            mine = (served.master == index) & (served.retries == 0)  # of others the last dispatch alone is known
            held, passed = np.sort(reached[mine]), np.sort(served.dispatched_s[mine])
            columns[f"queue:{spec.name}"] = until(held, middle) - until(passed, middle)
    return pd.DataFrame(columns)


def _emitted(served: FleetServed, at: Floats) -> Floats:
    """Tokens answered by each time: the first when it came, the others evenly up to the finish."""
    first, last = served.first_token_s, served.finish_s
    others = (served.output_tokens - 1).astype(np.float64)
    span = np.where(last > first, last - first, 1.0)
    rate = np.where(last > first, others / span, 0.0)
    total = np.asarray(np.searchsorted(np.sort(first), at, side="right"), dtype=np.float64)
    # Sum of clipped ramps: each adds rate x (t - first) after its start and takes that back after its end.
    for times, sign in ((first, 1.0), (last, -1.0)):
        order = np.argsort(times)
        rates, offsets = np.cumsum(rate[order]), np.cumsum((rate * times)[order])
        place = np.searchsorted(times[order], at, side="right")
        known = place > 0
        total[known] += sign * (rates[place[known] - 1] * at[known] - offsets[place[known] - 1])
    return total


def _pool(name: str, members: list[int], blocks: int, steps: pd.DataFrame, at: Floats) -> dict[str, Floats]:
    """What the step in hand at each time says, over a pool's replicas; nothing runs between steps."""
    waiting, running, fullest = np.zeros(len(at)), np.zeros(len(at)), np.zeros(len(at))
    for index in members:
        mine = steps[steps["rank"] == index]
        if not len(mine):
            continue
        start = mine["start_s"].to_numpy(dtype=np.float64)
        end = start + mine["time_s"].to_numpy(dtype=np.float64)
        place = np.searchsorted(start, at, side="right") - 1
        inside = (place >= 0) & (at <= end[np.maximum(place, 0)])
        place = np.maximum(place, 0)
        waiting += np.where(inside, mine["waiting"].to_numpy()[place], 0)
        running += np.where(inside, mine["decodes"].to_numpy()[place], 0)
        fullest = np.maximum(fullest, np.where(inside, mine["pages"].to_numpy()[place] / blocks, 0.0))
    return {f"waiting:{name}": waiting, f"running:{name}": running, f"kv:{name}": fullest}
