"""Sums and shares drawn from a run's frames; the summary, the page and the comparison all read these."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulator.metrics.result import RunResult
from simulator.report.kinds import GROUPS, Group, group_of

PHASES = ("prefill", "decode")


def timed(ops: pd.DataFrame) -> pd.DataFrame:
    """Ops with their duration and group (by label)."""
    labels = {kind: group_of(kind, stream).label for kind, stream in _kinds(ops)}
    return ops.assign(time_s=ops["end_s"] - ops["start_s"], group=ops["kind"].astype(object).map(labels))


def _kinds(ops: pd.DataFrame) -> list[tuple[str, str]]:
    pairs = ops[["kind", "stream"]].drop_duplicates()
    return [(str(kind), str(stream)) for kind, stream in pairs.itertuples(index=False)]


def phases(result: RunResult) -> tuple[str, ...]:
    """Phases that the run has, prefill first."""
    present = set(result.steps["phase"].astype(str))
    return tuple(phase for phase in PHASES if phase in present)


def rank_steps(ops: pd.DataFrame) -> int:
    """Pairs of (rank, step) in these ops: sums over ops divided by it are what an average rank spends in a step."""
    return max(1, len(ops[["pool", "rank", "step"]].drop_duplicates()))


def group_times(ops: pd.DataFrame, phase: str) -> list[tuple[Group, float]]:
    """Seconds an average rank spends in each group in a step of a phase; groups without any are left out.

    `ops` is what `timed` returns. Streams overlap, so that the sum may exceed the step's time.
    """
    part = ops[ops["phase"] == phase]
    sums = part.groupby("group", observed=True)["time_s"].sum() / rank_steps(part)
    return [(group, float(sums[group.label])) for group in GROUPS if sums.get(group.label, 0.0) > 0.0]


def step_time(result: RunResult, phase: str) -> float:
    """Mean seconds of a step; NaN where the phase is absent."""
    return float(result.steps.loc[result.steps["phase"] == phase, "time_s"].mean())


def comm_share(result: RunResult, phase: str) -> float:
    """Part of a phase's time spent waiting for links; NaN where the phase is absent."""
    part = result.steps[result.steps["phase"] == phase]
    total = float(part["time_s"].sum())
    return float(part["exposed_comm_s"].sum()) / total if total else float("nan")


def tokens_per_s(result: RunResult) -> float:
    """Generated tokens a second, over all sequences of the batch; NaN without decode steps."""
    part = result.steps[result.steps["phase"] == "decode"]
    total = float(part["time_s"].sum())
    return float(part["tokens"].sum()) / total if total else float("nan")


@dataclass(frozen=True, slots=True)
class Fullest:
    """The GPU with the least memory left."""

    pool: str
    rank: int
    total_bytes: float
    capacity_bytes: float

    @property
    def share(self) -> float:
        """Part of the GPU's memory that is used."""
        return self.total_bytes / self.capacity_bytes


def fullest(result: RunResult) -> Fullest | None:
    """The fullest GPU; None where memory was not counted."""
    if result.memory.empty:
        return None
    share = (result.memory["total_bytes"] / result.memory["capacity_bytes"]).to_numpy()
    row = result.memory.iloc[int(share.argmax())]
    return Fullest(str(row["pool"]), int(row["rank"]), float(row["total_bytes"]), float(row["capacity_bytes"]))


def bytes_by_class(result: RunResult) -> dict[str, float]:
    """Bytes over all links of each class, most first."""
    sums = result.links.groupby("link_class", observed=True)["bytes"].sum().sort_values(ascending=False)
    return {str(name): float(value) for name, value in sums.items()}


def provenance_shares(ops: pd.DataFrame) -> dict[str, float]:
    """Part of the simulated time that is measured, fitted, and by roofline; `ops` is what `timed` returns."""
    sums = ops.groupby("provenance", observed=True)["time_s"].sum()
    total = float(sums.sum())
    return {str(name): float(value) / total for name, value in sums.items()} if total else {}


@dataclass(frozen=True, slots=True)
class Imbalance:
    """Load of the busiest over the mean; 1 is even."""

    expected: float
    routed: float
    time: float
    """Of the ranks' time in experts' kernels, in a decode step where there is one."""


def imbalance(result: RunResult, ops: pd.DataFrame) -> Imbalance | None:
    """How unevenly experts are loaded; None for a model without experts. `ops` is what `timed` returns."""
    experts = ops[ops["kind"] == "Experts"]
    load = result.expert_load
    if experts.empty and load.empty:
        return None
    by_layer = load.groupby("layer", observed=True)[["expected_share", "routed_share"]]
    peaks = by_layer.max() / by_layer.mean() if len(load) else None
    by_rank = experts[experts["phase"] == phases(result)[-1]].groupby(["pool", "rank"], observed=True)["time_s"].sum()
    return Imbalance(
        expected=float(peaks["expected_share"].max()) if peaks is not None else float("nan"),
        routed=float(peaks["routed_share"].mean()) if peaks is not None else float("nan"),
        time=float(by_rank.max() / by_rank.mean()) if len(by_rank) else float("nan"),
    )


@dataclass(frozen=True, slots=True)
class Handover:
    """The KV cache on its way from prefill to decode."""

    bytes: float
    duplicate_bytes: float
    time_s: float
    pairs: int


def handover(result: RunResult) -> Handover | None:
    """Totals of the hand-over; None where pools are not apart."""
    frame = result.handover
    if frame.empty:
        return None
    span = float(frame["end_s"].max() - frame["start_s"].min())
    return Handover(float(frame["bytes"].sum()), float(frame["duplicate_bytes"].sum()), span, len(frame))


def finite(value: float) -> float | None:
    """NaN and infinities have no JSON; they become null."""
    return float(value) if np.isfinite(value) else None
