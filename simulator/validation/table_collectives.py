"""Predictions of collectives.csv: time, and bus bandwidth as nccl-tests counts it."""

import numpy as np
import pandas as pd

from simulator.cost.collective import collective_times
from simulator.cost.collective.price import platform_of
from simulator.cost.collective.request import OPS, Mode
from simulator.errors import ShardsimError
from simulator.topology.group import GroupLinks
from simulator.validation.answer import empty_answer, refuse
from simulator.validation.context import Context
from simulator.validation.libraries import library_key
from simulator.validation.links import links_or_reason, text

_SETUP = [
    "gpu", "total_gpus", "gpus_per_node", "intra_node", "inter_node", "nic_gbit_per_s_per_gpu",
    "library", "library_version", "mode", "op", "dtype", "notes",
]  # fmt: skip
MODE_OF: dict[str, Mode] = {"graph": "graph", "eager": "eager", "nccl-tests": "nccl-tests"}
ONE_PROCESS = "single process"
"""What a run's notes say where one process drove all GPUs of a node."""
BUS_FACTOR = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}


def bus_share(op: str, ranks: int) -> float:
    """Bus bandwidth over algorithm bandwidth, as nccl-tests defines it; 1 for broadcast and send_recv."""
    return BUS_FACTOR[op] * (ranks - 1) / ranks if op in BUS_FACTOR else 1.0


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:  # noqa: ARG001  the signature all predictors share
    """Time and bus bandwidth of each row from gpu, counts, links, library, mode, op, dtype and size."""
    answer = empty_answer(frame, ("time_s", "bus_bytes_per_s"), _labels(frame))
    for _, rows in frame.groupby(_SETUP, dropna=False, sort=False):
        reason = _fill(answer, rows)
        if reason:
            refuse(answer, rows.index, reason)
    return answer


def _labels(frame: pd.DataFrame) -> "pd.Series[str]":
    where = np.where(frame["nodes"] > 1, "several nodes", "one node")
    custom = frame["library"].fillna("").str.contains("custom")
    kind = np.where(custom, "engine all_reduce", frame["op"].fillna("?"))
    size = np.where(frame["message_bytes"] < 8192, "below 8 KiB", "8 KiB and up")
    return pd.Series([" / ".join(parts) for parts in zip(where, kind, size, strict=True)], index=frame.index)


def _fill(answer: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Predict rows that share their setup; returns why not, or ""."""
    first = rows.iloc[0]
    library = library_key(text(first.library), text(first.library_version))
    mode, op = MODE_OF.get(text(first["mode"])), text(first.op)
    mode = "one-process" if mode == "nccl-tests" and ONE_PROCESS in text(first.notes) else mode
    if library is None or mode is None or op not in OPS:
        return f"library {text(first.library)!r}, mode {text(first['mode'])!r} or op {op!r} is not known"
    if pd.isna(first.total_gpus) or pd.isna(first.gpus_per_node):
        return "the number of GPUs is not stated"
    links = links_or_reason(
        text(first.gpu), int(first.total_gpus), int(first.gpus_per_node), intra=text(first.intra_node),
        inter=text(first.inter_node), nic_gbit_per_s=float(first.nic_gbit_per_s_per_gpu), notes=text(first.notes),
    )  # fmt: skip
    if isinstance(links, str):
        return links
    try:
        times = _times(links, op, rows.message_bytes, library, mode, text(first.dtype))
    except ShardsimError as error:
        return str(error)
    answer.loc[rows.index, "predicted_time_s"] = times
    with np.errstate(divide="ignore", invalid="ignore"):
        bus = rows.message_bytes.to_numpy(float) / times * bus_share(op, links.ranks)
    answer.loc[rows.index, "predicted_bus_bytes_per_s"] = bus
    answer.loc[rows.index, "provenance"] = "fitted" if platform_of(links)[1] else "fitted on the nearest generation"
    return ""


def _times(
    links: GroupLinks, op: str, message_bytes: "pd.Series[float]", library: str, mode: Mode, dtype: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    sizes = np.asarray(message_bytes, dtype=np.float64)
    return collective_times(links, op, sizes, library=library, mode=mode, dtype=dtype)
