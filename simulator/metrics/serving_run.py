"""Runs a case of live serving and says what users felt and what it cost.

Frames of a result
requests   one row an answered request: number, session, arrival_s, first_token_s, finish_s, input_tokens,
           output_tokens, ttft_s, tpot_s, e2el_s, preemptions, retries, dispatched_s, prefilled_s, moved_s, master,
           prefill_replica, decode_replica (names; "" where there is none), good (keeps all limits); class, where
           the traffic has classes
steps      one row a step or leap: rank (index of the replica), start_s, time_s, steps, prompt_tokens, decodes, waiting,
           pages; empty where the run was too long to keep them
pools      serving_pools.POOL_COLUMNS
series     serving_series.SERIES_COLUMNS
masters    one row a master: master, dispatched, longest_queue, busy
classes    serving_classes.CLASS_COLUMNS; no rows where the traffic has no classes
tiers      serving_pools.TIER_COLUMNS; no rows without a prefix cache
outages    one row a fault: kind, target, start_s, end_s, speed, lost_requests, lost_tokens, taken_over, recovery_s
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.engine.fleet import FleetServed, serve_fleet
from simulator.metrics.result import Correctness
from simulator.metrics.serving import duration_s, request_frame, step_frame, summary
from simulator.metrics.serving_case import ServingCase
from simulator.metrics.serving_classes import class_frame
from simulator.metrics.serving_pools import pool_frame, tier_frame
from simulator.metrics.serving_series import series_frame
from simulator.metrics.stability import MEANING, Label, label

Floats = NDArray[np.float64]
MOST_LOGGED = 200_000
"""Requests up to which every step is kept: a day of a large fleet has tens of millions of steps."""


@dataclass(frozen=True, slots=True)
class ServingResult:
    """What the report shows of a run; frames' columns are in the module's docstring."""

    case: ServingCase
    label: Label
    benchmark: dict[str, object]
    """The fields of a result file of `vllm bench serve`."""
    figures: dict[str, float]
    """Answers beyond those: see `figures_of`; not a number where there is none."""
    requests: pd.DataFrame
    steps: pd.DataFrame
    pools: pd.DataFrame
    series: pd.DataFrame
    masters: pd.DataFrame
    outages: pd.DataFrame
    tiers: pd.DataFrame
    classes: pd.DataFrame
    itl_s: Floats
    """(401,) the least, the 0.25th percentile, ... the greatest time between two tokens."""
    events: int
    rejected: int
    correctness: Correctness | None = None
    """Of the sharded miniature, where numbers ran beside."""
    warnings: tuple[str, ...] = field(default=())


def run_serving(case: ServingCase, progress: Callable[[str, float], None] | None = None) -> ServingResult:
    """Serve to the end and summarise. Raises what `serve_fleet` raises."""
    tell = progress or (lambda _what, _part: None)
    tell("serving", 0.1)
    served = serve_fleet(case.workload, case.fleet, seed=case.seed, log=len(case.requests) <= MOST_LOGGED)
    tell("counting", 0.8)
    served = _as_users_see(case, served)
    steps, seconds = step_frame(served), duration_s(served)
    pools = pool_frame(case, served, steps, seconds)
    requests = _requests(case, served)
    word = label(served, steps, len(served.rejected))
    return ServingResult(
        case, word, _benchmark(case, served), figures_of(requests, pools, seconds, case), requests, steps,
        pools, series_frame(case, served, steps, seconds), _masters(case, served, seconds), _outages(served),
        tier_frame(case, served), class_frame(case, requests), _gaps(served), served.events, len(served.rejected),
        warnings=_warnings(word, pools, case),
    )  # fmt: skip


def _as_users_see(case: ServingCase, served: FleetServed) -> FleetServed:
    """Arrivals as of the user: before what was waited for ahead of the servers, such as a retrieval."""
    before = case.requests.before_s
    if before is None:
        return served
    return replace(served, arrival_s=served.arrival_s - before[served.number])


def _requests(case: ServingCase, served: FleetServed) -> pd.DataFrame:
    frame = request_frame(served)
    frame.insert(0, "number", served.number)
    session = case.requests.session
    frame.insert(1, "session", -1 if session is None else session[served.number])
    names = np.array([*(spec.name for spec in case.fleet.replicas), ""], dtype=object)
    masters = np.array([*(spec.name for spec in case.fleet.masters), ""], dtype=object)
    if case.classes and case.requests.kind is not None:
        frame["class"] = np.array(case.classes, dtype=object)[case.requests.kind[served.number]]
    frame["retries"] = served.retries
    for name in ("dispatched_s", "prefilled_s", "moved_s"):
        frame[name] = getattr(served, name)
    frame["master"] = masters[served.master]
    frame["prefill_replica"], frame["decode_replica"] = names[served.front], names[served.back]
    frame["good"] = True
    if case.slo is not None:
        for name, limit in case.slo.limits_ms().items():
            frame["good"] &= frame[f"{name}_s"].fillna(0.0) * 1e3 <= limit
    return frame


def _gaps(served: FleetServed) -> Floats:
    """Quantiles of the times between tokens, each weighted by how often it came."""
    if not len(served.itl_s):
        return np.zeros(0)
    order = np.argsort(served.itl_s, kind="stable")
    ends = np.cumsum(served.itl_count[order])
    place = np.linspace(0, int(ends[-1]) - 1, 401).astype(np.int64)
    return np.asarray(served.itl_s[order][np.searchsorted(ends, place, side="right")], dtype=np.float64)


def _benchmark(case: ServingCase, served: FleetServed) -> dict[str, object]:
    """In the order and under the names of vllm/benchmarks/serve.py (v0.11, 2025-10)."""
    model = case.pools[0].setup.architecture.name
    limits = case.slo.limits_ms() if case.slo is not None else None
    rate: object = case.rate_per_s if case.rate_per_s is not None else "inf"
    return {
        "backend": "shardsim", "model_id": model, "tokenizer_id": model, "num_prompts": len(case.requests),
        "request_rate": rate, "burstiness": case.burstiness, "max_concurrency": served.concurrency or None,
        **summary(served, limits), "failed": len(served.rejected),
    }  # fmt: skip


def figures_of(requests: pd.DataFrame, pools: pd.DataFrame, seconds: float, case: ServingCase) -> dict[str, float]:
    """What a fleet's owner asks: rates a GPU, utilisation, KV occupancy, money and energy a token, limits kept."""
    gpus = float(pools["gpus"].sum())
    given, asked = float(requests["input_tokens"].sum()), float(requests["output_tokens"].sum())
    usd = float(pools["usd_per_hour"].sum(min_count=len(pools))) * seconds / 3600.0
    energy = float(pools["energy_j"].sum())
    retried = float((requests["retries"] > 0).sum())
    computed = float(pools["prompt_tokens"].sum())
    return {
        "gpus": gpus,
        "output_tokens_per_s_per_gpu": asked / seconds / gpus,
        "input_tokens_per_s_per_gpu": given / seconds / gpus,
        "total_tokens_per_s_per_gpu": (given + asked) / seconds / gpus,
        "busy": float((pools["busy"] * pools["gpus"]).sum()) / gpus,
        "kv_max": float(pools["kv_max"].max()),
        "prompt_tokens_from_cache": max(0.0, 1.0 - computed / given),
        "usd_per_million_output_tokens": usd / asked * 1e6,
        "usd_per_million_tokens": usd / (given + asked) * 1e6,
        "joules_per_output_token": energy / asked,
        "power_w_per_gpu": energy / seconds / gpus,
        "good_share": float(requests["good"].mean()) if case.slo is not None else float("nan"),
        "retried_requests": retried,
        "availability": 1.0 - float(pools["down_s"].sum()) / (len(case.fleet.replicas) * seconds),
    }


def _masters(case: ServingCase, served: FleetServed, seconds: float) -> pd.DataFrame:
    rows = [
        (spec.name, int(count), int(longest), spec.dispatch_s * int(count) / seconds)
        for spec, count, longest in zip(
            case.fleet.masters, served.master_dispatched, served.master_longest, strict=True
        )
    ]
    return pd.DataFrame(rows, columns=["master", "dispatched", "longest_queue", "busy"])


def _outages(served: FleetServed) -> pd.DataFrame:
    rows = [
        (
            o.kind,
            o.target,
            o.start_s,
            o.end_s,
            o.speed,
            o.lost_requests,
            o.lost_tokens,
            o.taken_over,
            o.recovered_s - o.start_s,
        )
        for o in served.outages
    ]
    names = ["kind", "target", "start_s", "end_s", "speed", "lost_requests", "lost_tokens", "taken_over", "recovery_s"]
    return pd.DataFrame(rows, columns=names)


def _warnings(word: Label, pools: pd.DataFrame, case: ServingCase) -> tuple[str, ...]:
    found = []
    if word != "stable":
        found.append(f"{word}: {MEANING[word]}")
    found += [f"pool {pool.name}: {pool.price_source}" for pool in case.pools if pool.usd_per_gpu_hour is None]
    # A prefix cache fills whatever is free, and gives it back when it is asked to.
    caches = {spec.pool for spec in case.fleet.replicas if spec.prefix_block_tokens}
    full = [pool for pool in pools[pools["kv_max"] > 0.98]["pool"].tolist() if pool not in caches]
    if full:
        found.append(f"KV memory was full in {', '.join(map(str, full))}: requests waited or were preempted for it")
    return tuple(found)
