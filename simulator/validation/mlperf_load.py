"""MLPerf's server scenario. Its figure is the highest Poisson rate at which p99 of first tokens and of times per output
token keep the benchmark's limits (mlcommons/inference_policies, inference_rules.adoc, Scenarios: Server).

So a row's offered rate is where its own server came to the limits. The protocol is replayed as it is run: the rate is
raised on the simulated server until a limit binds, and latencies are those of that point. Rates are the row's own,
which the submission sustained; `peak` over it says how far off the simulated server's capacity is.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from simulator.engine.server import Server
from simulator.errors import DataError
from simulator.validation.context import Context
from simulator.validation.described import Described, policy_from
from simulator.validation.links import text
from simulator.validation.open_load import DataSet, data_set, spread_lengths
from simulator.validation.open_replay import Fleet, rates, steady_part
from simulator.validation.open_servers import gpus_of, mlperf_servers
from simulator.workload import poisson_arrivals, stream
from simulator.workload.requests import Requests

RUN_S = 600.0
"""Shortest run that counts (mlcommons/inference, loadgen, min_duration 600,000 ms)."""
FILLS = 6.0
"""How many times over a replayed run exchanges the requests in flight; its first part is not counted."""
FEWEST, MOST = 300, 4_000
"""Requests of one replayed run."""
WARM = 0.4
TRIES = 7
STRIDE = 1.3
"""Factor between rates that are tried until one keeps the limits and one does not."""
CLOSE = 1.06
"""A search ends when the highest rate that passed and the lowest that failed are this close."""


@dataclass(frozen=True, slots=True)
class Limits:
    """p99 limits in seconds."""

    ttft_s: float
    tpot_s: float


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest rate of one replica that keeps the limits, and what users see there."""

    rate_per_s: float
    latencies: dict[str, float]
    over: float
    """Worse p99 over its limit."""
    first_tokens_bind: bool


class ServerSource(Protocol):
    """Where servers come from."""

    context: Context
    peaks: dict[Hashable, Peak]

    def get(self, told: Described, clients: int, longest: int) -> Server:
        """The described server."""


def mlperf_outcomes(row: Any, servers: ServerSource) -> dict[str, float]:
    """Outcomes of a submission. Raises ShardsimError for what cannot be described."""
    lengths = data_set(text(row.model))
    if lengths is None:
        raise DataError(where="model", given=text(row.model), rule="is no benchmark whose data set is described here")
    if pd.isna(row.offered_requests_per_s):
        raise DataError(where="offered_requests_per_s", given="", rule="must be stated")
    limits = Limits(*(float(x) if pd.notna(x) else float("inf") for x in (row.ttft_limit_s, row.tpot_limit_s)))
    found = best_peak(row, lengths, limits, servers).latencies
    asked = row.mean_output_tokens_derived if pd.notna(row.mean_output_tokens_derived) else lengths.output_tokens
    rate = float(row.offered_requests_per_s)
    return found | rates(rate, rate * float(asked), 1.0, gpus_of(row))


def best_peak(row: Any, lengths: DataSet, limits: Limits, servers: ServerSource) -> Peak:
    """The operating point of the server that a planner would take: the smallest that holds the model, or a larger one
    where first tokens bind, which larger servers shorten, and the larger one then serves more a GPU."""
    best: tuple[float, Peak] | None = None
    for told in mlperf_servers(row, servers.context):
        key = (told, lengths, limits)
        if key not in servers.peaks:
            start = float(row.offered_requests_per_s) * told.layout.ranks / gpus_of(row)
            servers.peaks[key] = find_peak(told, lengths, limits, start, servers)
        peak = servers.peaks[key]
        value = peak.rate_per_s / told.layout.ranks if peak.over <= 1.0 else -peak.over
        if best is None or value > best[0]:
            best = value, peak
        if peak.over <= 1.0 and not peak.first_tokens_bind:
            break
    if best is None:
        raise DataError(where="gpus", given=str(row.gpus), rule="no server is left to try")
    return best[1]


def find_peak(told: Described, lengths: DataSet, limits: Limits, start_per_s: float, servers: ServerSource) -> Peak:
    """Raise or lower the rate of one replica, from `start_per_s` on, until a limit binds."""
    policy = policy_from(told)
    longest = int(
        lengths.input_tokens * (1 + 4 * lengths.input_cv) + lengths.output_tokens * (1 + 5 * lengths.output_cv)
    )
    fleet = Fleet(servers.get(told, policy.max_sequences, longest), policy, 1, told.layout.ranks)
    rate, passed, failed = start_per_s, None, None
    for _ in range(TRIES):
        peak = _try(fleet, lengths, limits, rate)
        if peak.over <= 1.0:
            passed = peak
        else:
            failed = peak
        if passed is not None and failed is not None:
            if failed.rate_per_s <= passed.rate_per_s * CLOSE:
                break
            rate = (passed.rate_per_s * failed.rate_per_s) ** 0.5
        else:
            rate = peak.rate_per_s * (STRIDE if passed is not None else 1.0 / STRIDE)
    return passed if passed is not None else peak


def _try(fleet: Fleet, lengths: DataSet, limits: Limits, rate: float) -> Peak:
    load = server_load(lengths, rate, limits)
    found = steady_part(fleet, load, WARM)
    first, token = found["p99_ttft_s"] / limits.ttft_s, found["p99_tpot_s"] / limits.tpot_s
    return Peak(rate, found, max(first, token), first > token)


def server_load(lengths: DataSet, rate_per_s: float, limits: Limits) -> Requests:
    """One replica's Poisson arrivals, as many as fill it a few times over."""
    stay_s = lengths.output_tokens * min(limits.tpot_s, 1.0) + min(limits.ttft_s, 10.0)
    seconds = min(RUN_S, max(30.0, FILLS * stay_s))
    count = int(min(MOST, max(FEWEST, rate_per_s * seconds)))
    return Requests(
        poisson_arrivals(stream(0, "arrivals"), rate_per_s, count),
        spread_lengths(stream(0, "input_tokens"), lengths.input_tokens, lengths.input_cv, count),
        spread_lengths(stream(0, "output_tokens"), lengths.output_tokens, lengths.output_cv, count),
    )
