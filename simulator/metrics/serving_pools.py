"""What each pool of a fleet did: how busy, how full, how much power and money."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.engine.fleet import FleetServed
from simulator.metrics.power import power_w
from simulator.metrics.serving_case import PoolFacts, ServingCase
from simulator.model.architecture import MixtureOfExperts
from simulator.model.counts import parameter_counts
from simulator.program.memory import kv_cache_bytes, weights_bytes

Ints = NDArray[np.int64]
POOL_COLUMNS = (
    "pool", "role", "gpu", "replicas", "gpus", "busy", "kv_mean", "kv_max", "prompt_tokens", "output_tokens",
    "memory_share", "compute_share", "power_w_per_gpu", "energy_j", "usd_per_hour", "down_s",
)  # fmt: skip
"""busy: share of the time in steps; kv_mean, kv_max: of the pages of the fullest rank; memory_share, compute_share: of
HBM bandwidth and of the bf16 peak (power.py); usd_per_hour: of the whole pool, not a number where no price is known."""


@dataclass(frozen=True, slots=True)
class _Steps:
    """A pool's steps, from the log or, where none was kept, from how long they took."""

    tokens: Ints
    """New tokens of each kind of step."""
    times: Ints
    prompt_tokens: int


def pool_frame(case: ServingCase, served: FleetServed, steps: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """One row a pool; columns are POOL_COLUMNS."""
    rows = [_pool(case, pool, served, steps, seconds) for pool in case.pools]
    return pd.DataFrame(rows, columns=list(POOL_COLUMNS))


TIER_COLUMNS = ("pool", "tier", "prompt_tokens", "found_tokens", "hit_rate")
"""hit_rate: of the prompt tokens of all admissions."""


def tier_frame(case: ServingCase, served: FleetServed) -> pd.DataFrame:
    """One row a pool with a prefix cache and a place where its blocks are found; columns are TIER_COLUMNS."""
    rows: list[tuple[object, ...]] = []
    for pool in case.pools:
        members = replicas_of(case, pool)
        spec = case.fleet.replicas[members[0]]
        if spec.prefix_block_tokens and spec.role != "decode":
            asked, *found = np.sum([served.prefix_tokens[member] for member in members], axis=0).tolist()
            names = ("GPU", *(tier.name for tier in spec.kv_tiers))
            rows += [
                (pool.name, name, asked, n, n / asked if asked else 0.0) for name, n in zip(names, found, strict=True)
            ]
    return pd.DataFrame(rows, columns=list(TIER_COLUMNS))


def replicas_of(case: ServingCase, pool: PoolFacts) -> Ints:
    """Indices of a pool's replicas in the fleet."""
    return np.array([i for i, spec in enumerate(case.fleet.replicas) if spec.pool == pool.name], dtype=np.int64)


def _pool(
    case: ServingCase, pool: PoolFacts, served: FleetServed, steps: pd.DataFrame, seconds: float
) -> tuple[object, ...]:
    members = replicas_of(case, pool)
    mine = steps[steps["rank"].isin(members)]
    where = np.where(served.back >= 0, served.back, served.front)
    answered = np.isin(where, members) & (pool.role != "prefill")
    given = int(served.input_tokens[np.isin(served.front, members)].sum())
    busy = float(served.busy_s[members].sum()) / (len(members) * seconds)
    work = _steps(mine, served, members, answered, given)
    asked = int(served.output_tokens[answered].sum())
    kv_mean, kv_max = _occupancy(mine, pool, seconds * len(members))
    memory = _bytes(pool, work, served, answered) / (len(members) * seconds * pool.setup.device.hbm_bytes_per_s)
    compute = _compute_share(pool, work.prompt_tokens + asked, len(members) * pool.gpus * seconds)
    watts = power_w(pool.setup.device.tdp_w, busy, memory, compute)
    gpus = len(members) * pool.gpus
    usd = float("nan") if pool.usd_per_gpu_hour is None else pool.usd_per_gpu_hour * gpus
    return (
        pool.name, pool.role, pool.setup.device.name, len(members), gpus, busy, kv_mean, kv_max, work.prompt_tokens,
        asked, memory, compute, watts, watts * gpus * seconds, usd, float(served.down_s[members].sum()),
    )  # fmt: skip


def _steps(mine: pd.DataFrame, served: FleetServed, members: Ints, answered: NDArray[np.bool_], given: int) -> _Steps:
    if len(mine):
        tokens = (mine["prompt_tokens"] + mine["decodes"]).to_numpy(dtype=np.int64)
        return _Steps(tokens, mine["steps"].to_numpy(dtype=np.int64), int(mine["prompt_tokens"].sum()))
    counts = served.itl_count
    if not len(counts):
        return _Steps(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), given)
    typical_s = float((served.itl_s * counts).sum() / counts.sum())
    times = int(served.busy_s[members].sum() / typical_s)
    asked = int(served.output_tokens[answered].sum())
    return _Steps(np.array([max(1, asked // max(1, times))]), np.array([times]), given)


def _occupancy(mine: pd.DataFrame, pool: PoolFacts, seconds: float) -> tuple[float, float]:
    """(mean over the time, most) of the pages in use; 0 while a replica has nothing to do."""
    if not len(mine):
        return float("nan"), float("nan")
    share = mine["pages"].to_numpy(dtype=np.float64) / pool.kv_blocks
    return float((share * mine["time_s"].to_numpy()).sum() / seconds), float(share.max())


def touched_share(pool: PoolFacts, tokens: Ints) -> NDArray[np.float64]:
    """Share of a rank's weights that a step of so many tokens reads: all of a dense model, of experts those that are
    chosen by at least one token, all as likely: 1 - (1 - k / E)^n."""
    model = pool.setup.architecture
    counts = parameter_counts(model)
    moe = next((x.feed_forward for x in model.layers if isinstance(x.feed_forward, MixtureOfExperts)), None)
    if moe is None:
        return np.ones(len(tokens))
    active = counts.active / counts.total
    chosen = 1.0 - (1.0 - moe.top_k / moe.experts) ** np.maximum(tokens, 1)
    return np.asarray(np.minimum(1.0, active + (1.0 - active) * chosen))


def _bytes(pool: PoolFacts, work: _Steps, served: FleetServed, answered: NDArray[np.bool_]) -> float:
    """Bytes that one GPU of each replica read, summed over replicas: weights step by step, KV token by token."""
    model, layout = pool.setup.architecture, pool.setup.layout
    weights = max(weights_bytes(model, layout, stage) for stage in range(layout.pp))
    total = weights * float((touched_share(pool, work.tokens) * work.times).sum())
    asked = served.output_tokens[answered]
    if len(asked):
        mean = int((asked * (served.input_tokens[answered] + asked / 2.0)).sum() / asked.sum())
        each = max(kv_cache_bytes(model, layout, stage, (max(1, mean),)) for stage in range(layout.pp))
        total += float(asked.sum()) * each / layout.dp_attention
    return total


def _compute_share(pool: PoolFacts, tokens: int, gpu_seconds: float) -> float:
    active = parameter_counts(pool.setup.architecture).active
    return 2.0 * active * tokens / (gpu_seconds * pool.setup.device.peak_flops_per_s["bf16"])
