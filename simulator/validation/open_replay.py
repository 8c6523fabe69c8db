"""One open-loop run: its requests on its replicas, and the table's outcomes of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simulator.engine.replica import serve
from simulator.engine.server import Server
from simulator.metrics.serving import request_frame
from simulator.serving.policy import Policy
from simulator.validation.described import ranks_of
from simulator.validation.open_load import share_of
from simulator.workload.closed_loop import ClosedLoop
from simulator.workload.requests import Requests

OUTCOMES = (
    "achieved_requests_per_s", "mean_ttft_s", "median_ttft_s", "p90_ttft_s", "p99_ttft_s", "mean_tpot_s",
    "median_tpot_s", "p90_tpot_s", "p99_tpot_s", "mean_e2el_s", "output_tokens_per_s", "output_tokens_per_s_per_gpu",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fleet:
    """Equal replicas, and the GPUs of all of them."""

    server: Server
    policy: Policy
    replicas: int
    gpus: int
    at_random: bool = False
    """Requests are dealt at random; else in turn, which is what routers that look at loads come to."""
    front_s: float = 0.0
    """From a client to the engine and back: HTTP, tokeniser, first event of the stream. Engines do not wait for it."""
    most_in_flight: int = 0
    """Requests that the clients together keep open at most; 0: no limit."""


def run(fleet: Fleet, load: Requests) -> pd.DataFrame:
    """Each request's times. Where clients would have more requests open than they keep, they are a closed loop."""
    frame = _served(fleet, load, 0)
    limit = fleet.most_in_flight
    if limit and _most_open(frame) > limit:
        frame = _served(fleet, load, limit)
    frame["ttft_s"] += fleet.front_s
    frame["e2el_s"] += fleet.front_s
    frame["finish_s"] += fleet.front_s
    return frame


def _served(fleet: Fleet, load: Requests, clients: int) -> pd.DataFrame:
    longest = int((load.input_tokens + load.output_tokens).max())
    parts = []
    for replica in range(fleet.replicas):
        mine = share_of(load, replica, fleet.replicas, at_random=fleet.at_random)
        if not len(mine):
            continue
        ranks = ranks_of(fleet.server, fleet.policy, longest, prefixes=bool(load.prefixes))
        sent = ClosedLoop(mine, -(-clients // fleet.replicas)) if clients else mine
        parts.append(request_frame(serve(sent, ranks, fleet.server.table)))
    return pd.concat(parts, ignore_index=True)


def _most_open(frame: pd.DataFrame) -> int:
    """Most requests that were open at once."""
    came, gone = np.sort(frame.arrival_s.to_numpy(float)), np.sort(frame.finish_s.to_numpy(float))
    return int((np.arange(1, len(came) + 1) - np.searchsorted(gone, came, side="right")).max())


def latencies(frame: pd.DataFrame) -> dict[str, float]:
    """Means and percentiles of first tokens, tokens and whole answers."""
    found: dict[str, Any] = {"mean_e2el_s": frame.e2el_s.mean()}
    for name in ("ttft", "tpot"):
        column = frame[f"{name}_s"].dropna()
        found |= {f"mean_{name}_s": column.mean(), f"median_{name}_s": column.median()}
        found |= {f"p90_{name}_s": column.quantile(0.9), f"p99_{name}_s": column.quantile(0.99)}
    return {name: float(value) for name, value in found.items()}


def rates(requests: float, tokens: float, seconds: float, gpus: int) -> dict[str, float]:
    """The outcomes that are rates."""
    rate = tokens / seconds
    found = {"achieved_requests_per_s": requests / seconds, "output_tokens_per_s": rate}
    return found | ({"output_tokens_per_s_per_gpu": rate / gpus} if gpus else {})


def whole_run(fleet: Fleet, load: Requests, *, events_per_token: int = 1) -> dict[str, float]:
    """Outcomes of a run from its first arrival to its last token. A client that counts several events a token divides
    its time per token by all of them."""
    frame = run(fleet, load)
    if events_per_token > 1:
        frame["tpot_s"] *= (frame.output_tokens - 1) / (events_per_token * frame.output_tokens)
    seconds = float(frame.finish_s.max() - frame.arrival_s.min())
    return latencies(frame) | rates(len(frame), float(frame.output_tokens.sum()), seconds, fleet.gpus)


def steady_part(fleet: Fleet, load: Requests, warm: float) -> dict[str, float]:
    """Latencies of a long run, the first `warm` (a part) of its requests left out."""
    frame = run(fleet, load)
    return latencies(frame[frame.arrival_s >= float(np.quantile(frame.arrival_s, warm))])
