"""Event logs as data frames; the columns are documented in `result`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from simulator.engine.log import HandoverRecord, OpRecord
from simulator.engine.miniature_run import MiniatureRun
from simulator.engine.session import Simulation
from simulator.model.architecture import MixtureOfExperts
from simulator.program.experts import popularity

NUMERICS = ["dtype", "pool", "layer", "probe", "max_relative_error"]
EXPERT_LOAD = ["layer", "expert", "expected_share", "routed_tokens", "routed_share"]
STEPS = [
    "step", "phase", "pool", "start_s", "end_s", "time_s", "tokens", "compute_s", "comm_s", "exposed_comm_s",
    "idle_s", "comm_share", "floor_s",
]  # fmt: skip


def op_frame(ops: Sequence[OpRecord]) -> pd.DataFrame:
    """One row per op; repeated words are categories, which keeps a 144-GPU timeline small."""
    frame = pd.DataFrame(ops, columns=list(OpRecord._fields))
    for column in ("phase", "pool", "stream", "op", "kind", "provenance", "bound"):
        frame[column] = frame[column].astype("category")
    return frame


def step_frame(simulation: Simulation, ops: pd.DataFrame) -> pd.DataFrame:
    """One row per step: its time, and how long the average rank computed, communicated, and waited for it."""
    busy = ops.assign(time_s=ops["end_s"] - ops["start_s"])
    sums = busy.groupby(["step", "rank", "stream"], observed=True)["time_s"].sum().unstack().fillna(0.0)
    rows = []
    for record in simulation.steps:
        mine = sums.loc[record.step] if record.step in sums.index.get_level_values(0) else pd.DataFrame()
        compute_s = float(mine["compute"].mean()) if "compute" in mine else 0.0
        comm_s = float(mine["comm"].mean()) if "comm" in mine else 0.0
        time_s = record.end_s - record.start_s
        waiting_s = max(0.0, time_s - compute_s)
        exposed_s = min(waiting_s, comm_s)  # the rest waits for another pipeline stage
        floor_s = simulation.floors_s.get(record.step, float("nan"))
        rows.append(
            (
                *record[:5], time_s, record.tokens, compute_s, comm_s, exposed_s, waiting_s - exposed_s,
                exposed_s / time_s if time_s else 0.0, floor_s,
            )
        )  # fmt: skip
    return pd.DataFrame(rows, columns=STEPS)


def memory_frame(simulation: Simulation) -> pd.DataFrame:
    """One row per rank."""
    pools = {pool.name: pool for pool in simulation.deployment.pools}
    rows = []
    for (name, rank), memory in simulation.memory.items():
        gpu = pools[name].gpus[rank]
        capacity = simulation.deployment.cluster.device(gpu).hbm_bytes
        parts = (memory.weights_bytes, memory.kv_cache_bytes, memory.activations_bytes)
        rows.append((name, rank, gpu, *parts, memory.total_bytes, capacity))
    columns = [
        "pool",
        "rank",
        "gpu",
        "weights_bytes",
        "kv_cache_bytes",
        "activations_bytes",
        "total_bytes",
        "capacity_bytes",
    ]
    return pd.DataFrame(rows, columns=columns)


def numerics_frame(miniatures: Sequence[MiniatureRun]) -> pd.DataFrame:
    """One row per dtype, pool, layer and probe."""
    rows = [
        (run.dtype, pool, layer, probe, error)
        for run in miniatures
        for (pool, layer, probe), error in sorted(run.errors.items())
    ]
    return pd.DataFrame(rows, columns=NUMERICS)


def expert_load_frame(simulation: Simulation) -> pd.DataFrame:
    """Per MoE layer and expert: the share the price assumes, and what the miniature's router really did."""
    if not simulation.miniatures:
        return pd.DataFrame(columns=EXPERT_LOAD)
    run, skew = simulation.miniatures[0], simulation.deployment.options.expert_skew
    rows = []
    for index, layer in enumerate(run.architecture.layers):
        if not isinstance(layer.feed_forward, MixtureOfExperts):
            continue
        experts = layer.feed_forward.experts
        chosen = np.concatenate([step.activations[index]["router_experts"].ravel() for step in run.reference])
        counts = np.bincount(chosen.astype(int), minlength=experts)
        share = counts / counts.sum()
        expected = popularity(experts, skew)
        rows += [(run.kept[index], e, expected[e], int(counts[e]), share[e]) for e in range(experts)]
    return pd.DataFrame(rows, columns=EXPERT_LOAD)


def handover_frame(records: Sequence[HandoverRecord]) -> pd.DataFrame:
    """One row per pair of ranks that exchanged cache."""
    return pd.DataFrame(records, columns=list(HandoverRecord._fields))
