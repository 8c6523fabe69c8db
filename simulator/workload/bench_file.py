"""Result files of `vllm bench serve`: the requests that were sent, to be replayed."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from simulator.errors import NotBuiltError, WorkloadError
from simulator.workload.arrivals import gamma_arrivals
from simulator.workload.closed_loop import ClosedLoop
from simulator.workload.reading import opened, whole_number
from simulator.workload.requests import Floats, Requests, requests
from simulator.workload.streams import stream


def read_vllm_result(path: Path, seed: int = 0) -> Requests | ClosedLoop:
    """The traffic of a result file written with --save-detailed: its `input_lens` and `output_lens`.

    Arrivals are `start_times` where the file has them. Else they are drawn anew from `request_rate` and `burstiness`
    and stretched to n / rate, as the benchmark client draws them (vllm/benchmarks/serve.py, get_request, v0.11,
    2025-10); a rate of "inf" with `max_concurrency` is a closed loop, without it all requests come at 0. Requests that
    failed (no output) are left out. Raises WorkloadError naming the file and the field, NotBuiltError for a finite
    rate under a limit of concurrency.
    """
    found = _object(path)
    given = _lengths(path, found, "input_lens", 1)
    asked = _lengths(path, found, "output_lens", 0)
    if len(given) != len(asked):
        raise WorkloadError(
            where=f"{path}: output_lens", given=f"{len(asked)} entries", rule=f"input_lens has {len(given)}"
        )
    kept = [i for i, tokens in enumerate(asked) if tokens > 0]
    if not kept:
        raise WorkloadError(where=str(path), given="", rule="holds no request that was answered")
    prompts = np.array([given[i] for i in kept], dtype=np.int64)
    answers = np.array([asked[i] for i in kept], dtype=np.int64)
    clients = found.get("max_concurrency")
    if clients is not None and "start_times" not in found:
        if _rate(path, found) is not None:
            raise NotBuiltError(
                where=f"{path}: max_concurrency", given=str(clients), rule="a rate under a limit is not replayed",
                way_out="take max_concurrency out of the file to replay the rate alone",
            )  # fmt: skip
        limit = whole_number(f"{path}: max_concurrency", clients)
        return ClosedLoop(requests(np.zeros(len(kept)), prompts, answers), limit)
    order, times_s = _arrivals(path, found, kept, seed)
    return requests(times_s, prompts[order], answers[order])


def _object(path: Path) -> dict[str, Any]:
    with opened(path) as handle:
        try:
            found = json.load(handle)
        except ValueError as error:
            raise WorkloadError(where=str(path), given="", rule=f"is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise WorkloadError(where=str(path), given=type(found).__name__, rule="must be an object of result fields")
    return found


def _lengths(path: Path, found: dict[str, Any], name: str, least: int) -> list[int]:
    values = found.get(name)
    if not isinstance(values, list):
        raise WorkloadError(
            where=f"{path}: {name}", given=type(values).__name__, rule="must be a list of token counts",
            way_out="write the file with --save-detailed",
        )  # fmt: skip
    return [whole_number(f"{path}: {name}[{i}]", value, least) for i, value in enumerate(values)]


def _rate(path: Path, found: dict[str, Any]) -> float | None:
    """Requests a second; None for as fast as possible."""
    value = found.get("request_rate", "inf")
    if value == "inf" or (isinstance(value, float) and value == float("inf")):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (isfinite(value) and value > 0):
        raise WorkloadError(where=f"{path}: request_rate", given=repr(value), rule='must be positive, or "inf"')
    return float(value)


def _arrivals(path: Path, found: dict[str, Any], kept: list[int], seed: int) -> tuple[Any, Floats]:
    """(order of the kept requests, their times)."""
    starts = found.get("start_times")
    if starts is not None:
        if not isinstance(starts, list) or len(starts) <= kept[-1]:
            raise WorkloadError(where=f"{path}: start_times", given=str(starts)[:40], rule="one a request")
        try:
            times = np.array([float(starts[i]) for i in kept])
        except (TypeError, ValueError) as error:
            raise WorkloadError(where=f"{path}: start_times", given=str(error), rule="must be seconds") from error
        order = np.argsort(times, kind="stable")
        return order, times[order] - times.min()
    rate, everyone = _rate(path, found), np.arange(len(kept))
    if rate is None:
        return everyone, np.zeros(len(kept))
    burstiness = found.get("burstiness", 1.0)
    if isinstance(burstiness, bool) or not isinstance(burstiness, int | float):
        raise WorkloadError(where=f"{path}: burstiness", given=repr(burstiness), rule="must be a number")
    times = gamma_arrivals(stream(seed, "arrivals"), rate, float(burstiness), len(kept))
    return everyone, times * (len(kept) / rate / times[-1])
