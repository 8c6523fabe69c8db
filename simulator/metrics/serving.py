"""What users feel, in the names and JSON fields of `vllm bench serve`.

TTFT: first token less arrival. TPOT: (finish - first token) / (output tokens - 1), requests of one token left out.
ITL: time between two tokens of a request. E2EL: finish less arrival. Percentiles interpolate linearly, as NumPy does.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.engine.replica import STEP_COLUMNS, Served
from simulator.errors import WorkloadError

Floats = NDArray[np.float64]
PERCENTILES = (50.0, 90.0, 95.0, 99.0)


def request_frame(served: Served) -> pd.DataFrame:
    """One row a request: times in seconds, tokens, ttft_s, tpot_s (NaN for one token), e2el_s, preemptions."""
    tokens = served.output_tokens
    steps = np.where(tokens > 1, tokens - 1, np.nan)
    return pd.DataFrame(
        {
            "arrival_s": served.arrival_s, "first_token_s": served.first_token_s, "finish_s": served.finish_s,
            "input_tokens": served.input_tokens, "output_tokens": tokens,
            "ttft_s": served.first_token_s - served.arrival_s,
            "tpot_s": (served.finish_s - served.first_token_s) / steps,
            "e2el_s": served.finish_s - served.arrival_s, "preemptions": served.preemptions,
        }
    )  # fmt: skip


def step_frame(served: Served) -> pd.DataFrame:
    """One row a step or leap: rank, start_s, time_s, steps, prompt_tokens, decodes, waiting, pages."""
    return pd.DataFrame(list(served.steps), columns=list(STEP_COLUMNS))


def duration_s(served: Served) -> float:
    """From the start of the clock to the last token, as the benchmark client counts."""
    return float(served.finish_s.max())


def summary(served: Served, goodput_ms: Mapping[str, float] | None = None) -> dict[str, float]:
    """The result file's fields. `goodput_ms`: limits of ttft, tpot and e2el in milliseconds, all to be kept.

    Raises WorkloadError for a limit that is not one of these or not positive.
    """
    frame = request_frame(served)
    seconds = duration_s(served)
    given, asked = int(served.input_tokens.sum()), int(served.output_tokens.sum())
    found: dict[str, float] = {
        "duration": seconds, "completed": len(frame), "total_input_tokens": given, "total_output_tokens": asked,
        "request_throughput": len(frame) / seconds, "output_throughput": asked / seconds,
        "total_token_throughput": (given + asked) / seconds,
    }  # fmt: skip
    if served.concurrency:
        found["max_concurrency"] = served.concurrency
    if goodput_ms is not None:
        found["request_goodput:"] = float(_good(frame, goodput_ms).sum()) / seconds
    for name in ("ttft", "tpot", "e2el"):
        found |= _statistics(name, frame[f"{name}_s"].dropna().to_numpy(float))
    return found | _weighted_statistics("itl", served.itl_s, served.itl_count)


def _good(frame: pd.DataFrame, limits_ms: Mapping[str, float]) -> "pd.Series[bool]":
    good = pd.Series(True, index=frame.index)
    for name, limit in limits_ms.items():
        if name not in ("ttft", "tpot", "e2el") or not limit > 0:
            raise WorkloadError(
                where=f"goodput: {name}", given=str(limit), rule="must be ttft, tpot or e2el with milliseconds above 0"
            )
        good &= frame[f"{name}_s"].fillna(0.0) * 1e3 <= limit
    return good


def _statistics(name: str, seconds: Floats) -> dict[str, float]:
    if not len(seconds):
        return {}
    ms = seconds * 1e3
    values = dict(zip(PERCENTILES, np.percentile(ms, PERCENTILES), strict=True))
    return _named(name, float(ms.mean()), float(ms.std()), values)


def _weighted_statistics(name: str, seconds: Floats, counts: NDArray[np.int64]) -> dict[str, float]:
    """As if each value stood there `count` times."""
    if not len(seconds):
        return {}
    order = np.argsort(seconds, kind="stable")
    ms, weights = seconds[order] * 1e3, counts[order]
    total = int(weights.sum())
    mean = float((ms * weights).sum() / total)
    spread = float(np.sqrt(((ms - mean) ** 2 * weights).sum() / total))
    ends = np.cumsum(weights)
    values = {}
    for p in PERCENTILES:
        place = p / 100.0 * (total - 1)
        low, high = (ms[np.searchsorted(ends, int(at), side="right")] for at in (np.floor(place), np.ceil(place)))
        values[p] = float(low + (high - low) * (place - np.floor(place)))
    return _named(name, mean, spread, values)


def _named(name: str, mean: float, spread: float, percentiles: Mapping[float, float]) -> dict[str, float]:
    found = {f"mean_{name}_ms": mean, f"median_{name}_ms": float(percentiles[50.0]), f"std_{name}_ms": spread}
    return found | {f"p{p:g}_{name}_ms": float(value) for p, value in percentiles.items()}


def closed_loop_identity(served: Served) -> float:
    """Output rate x mean E2EL over concurrency x mean output length: 1 but for the ends of the run (Little's law).

    Raises WorkloadError for an open loop.
    """
    if not served.concurrency:
        raise WorkloadError(given="", rule="the identity is that of a closed loop")
    rate = float(served.output_tokens.sum()) / duration_s(served)
    e2el = float((served.finish_s - served.arrival_s).mean())
    return rate * e2el / (served.concurrency * float(served.output_tokens.mean()))


def running_at(served: Served, times_s: Sequence[float]) -> NDArray[np.int64]:
    """Requests in the system at these times."""
    came = np.searchsorted(np.sort(served.arrival_s), times_s, side="right")
    left = np.searchsorted(np.sort(served.finish_s), times_s, side="right")
    return np.asarray(came - left, dtype=np.int64)
