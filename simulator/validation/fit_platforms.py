"""Fit of the stages that NCCL's collectives run by inside one node, one platform at a time.

Robust least squares (soft L1) on the logarithm of the time, every parameter in logarithms with a weak pull
to a common start, so that a stage no row shows keeps a sensible value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.cost.collective import nccl
from simulator.cost.collective.facts import Protocol
from simulator.cost.collective.parameters import Parameters, Platform, Stage, link_class
from simulator.cost.collective.price import INT8_REDUCTION, links_for
from simulator.cost.collective.stages import stage_times
from simulator.topology.group import GroupLinks
from simulator.validation.links import links_or_reason, text

Floats = NDArray[np.float64]
OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
_RING_OPS = OPS[:3]
_PULL = 0.02
_SHARPNESS = 20.0
"""Residuals of 1/20 = 5 % lie at the bend of the robust loss."""
# Starting values: launch and hops by NCCL's own hardware latencies (facts.py), shares of the link by its protocol
# overheads (LL sends 50 % flags), the fill by one 512 KiB step of the FIFO.
_START: dict[str, float] = {
    "launch": 5e-6, "copy": 2.0, "contention": 0.5, "contention_ratio": 1.0,
    "ring_ll.hop": 1e-6, "ring_ll.fill": 2e-6, "ring_ll.bytes": 4e3, "ring_ll.power": 1.0, "ring_ll.eff": 0.38,
    "ring_ll128.hop": 1.5e-6, "ring_ll128.fill": 8e-6, "ring_ll128.bytes": 6e4, "ring_ll128.power": 1.0,
    "ring_ll128.eff": 0.65, "ring_simple.hop": 4e-6, "ring_simple.fill": 1e-5, "ring_simple.bytes": 5e4,
    "ring_simple.power": 0.5, "ring_simple.eff": 0.8,
    "nvls_simple.hop": 2.5e-5, "nvls_simple.fill": 7e-5, "nvls_simple.bytes": 1e6, "nvls_simple.power": 1.0,
    "nvls_simple.eff": 0.52,
    "exchange_ll.hop": 0.3e-6, "exchange_ll.fill": 6e-6, "exchange_ll.bytes": 3e4, "exchange_ll.power": 1.0,
    "exchange_ll.eff": 0.8, "exchange_simple.hop": 0.3e-6, "exchange_simple.fill": 1e-5,
    "exchange_simple.bytes": 3e5, "exchange_simple.power": 1.0, "exchange_simple.eff": 0.75,
}  # fmt: skip
_PARTS = ("hop", "fill", "bytes", "power", "sharp")
# Host time of one call from Python where no eager row tells: PyTorch on x86 and on Grace (medians, 2026-08).
_FLOOR = {"x86": 2.1e-5, "arm": 4.8e-5}
_STAGES = ("ring_ll", "ring_ll128", "ring_simple", "nvls_simple", "exchange_ll", "exchange_simple")


@dataclass(frozen=True, slots=True)
class Cell:
    """Rows that one stage prices: same links, op, algorithm, protocol."""

    links: GroupLinks
    op: str
    algorithm: str
    protocol: Protocol
    sizes: Floats
    log_time: Floats
    weight: Floats
    index: NDArray[np.int64]


def keys_of(kind: str) -> list[str]:
    """Names of a platform's free parameters; a switch has no contention, PCIe no LL128 and no NVLS."""
    stages = [s for s in _STAGES if kind == "nvlink" or s not in ("ring_ll128", "nvls_simple")]
    keys = [f"launch.{op}" for op in OPS] + [f"copy.{op}" for op in OPS]
    keys += [] if kind == "nvlink" else ["contention", "contention_ratio"]
    for stage in stages:
        keys += [f"{stage}.{part}" for part in _PARTS]
        keys += [f"{stage}.eff.{op}" for op in (("all_to_all",) if stage.startswith("exchange") else _RING_OPS)]
    return keys


def start_of(key: str) -> float:
    """Where a parameter starts, and is weakly pulled to."""
    head = key.split(".")
    if head[-1] == "sharp":
        return 1.2
    return _START[head[0]] if head[0] in _START else _START[".".join(head[:2])]


def bounds_of(key: str) -> tuple[float, float]:
    """What a parameter may be: no share above the whole link, nothing more than 30 times off its start."""
    start = start_of(key)
    if ".eff" in key:
        return 0.02, 1.0
    if key.endswith((".power", ".sharp")):
        return (0.1, 8.0) if key.endswith(".power") else (1.0, 6.0)
    return (0.01, 3.0) if key == "contention" else (start / 30.0, start * 30.0)


def platform_from(name: str, values: Mapping[str, float], error: float = 0.0) -> Platform:
    """The platform with these parameter values."""
    stages: dict[str, Stage] = {}
    for stage in _STAGES:
        if f"{stage}.hop" in values:
            numbers = [values[f"{stage}.{part}"] for part in _PARTS]
            prefix = f"{stage}.eff."
            share = {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
            stages[stage] = Stage(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], share)
    launch, own = ({op: values[f"{what}.{op}"] for op in OPS} for what in ("launch", "copy"))
    near = values.get("contention", 0.0)
    far = near * values.get("contention_ratio", 1.0)
    return Platform(name, launch, own, near, far, dict(_FLOOR), 1.0, stages, error)


def setup_links(row: Any) -> GroupLinks | str:
    """The links of one row of collectives.csv, or why they are not known."""
    return links_or_reason(
        text(row.gpu), int(row.total_gpus), int(row.gpus_per_node), intra=text(row.intra_node),
        inter=text(row.inter_node), nic_gbit_per_s=float(row.nic_gbit_per_s_per_gpu), notes=text(row.notes),
    )  # fmt: skip


def rows_with_links(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose links are known, with a column `links` and the platform's name."""
    setup = ["gpu", "total_gpus", "gpus_per_node", "intra_node", "inter_node", "nic_gbit_per_s_per_gpu", "notes"]
    found = {key: setup_links(group.iloc[0]) for key, group in frame.groupby(setup, dropna=False)}
    kept = frame.assign(links=pd.Series([found[key] for key in _keys(frame, setup, found)], frame.index, dtype=object))
    kept = kept[[isinstance(links, GroupLinks) for links in kept["links"]]]
    return kept.assign(
        platform=[f"{links.device.generation}.{link_class(links)}" for links in kept["links"]],
        nodes_=[links.nodes for links in kept["links"]],
        links_id=pd.factorize(np.array([hash(links) for links in kept["links"]]))[0],
    )


def _keys(frame: pd.DataFrame, setup: Sequence[str], found: Mapping[Any, Any]) -> list[Any]:
    by_text = {tuple(map(str, key)): key for key in found}
    return [by_text[tuple(map(str, row))] for row in frame[list(setup)].itertuples(index=False, name=None)]


def cells_of(rows: pd.DataFrame) -> list[Cell]:
    """Rows grouped by what prices them; repeated measurements of one point share its weight."""
    cells: list[Cell] = []
    repeats = rows.groupby(["links_id", "op", "message_bytes"]).time_s.transform("size")
    for (_, op, dtype), group in rows.groupby(["links_id", "op", np.where(rows["dtype"] == "int8", "int8", "half")]):
        links = links_for(group["links"].iloc[0], str(op), str(dtype))
        sizes = group.message_bytes.to_numpy(float)
        candidates, picked = nccl.choices(links, str(op), None, sizes)
        slower = INT8_REDUCTION - 1.0 if dtype == "int8" and op in ("all_reduce", "reduce_scatter") else 0.0
        factor = 1.0 + slower * sizes / (sizes + 2.0**20)
        log_time = np.log(group.time_s.to_numpy(float) / factor)
        weight = 1.0 / np.sqrt(repeats[group.index].to_numpy(float))
        for number, (algorithm, protocol) in enumerate(candidates):
            on = picked == number
            if on.any():
                index = group.index.to_numpy()[on]
                cells.append(
                    Cell(links, str(op), algorithm, protocol, sizes[on], log_time[on], weight[on], index)
                )  # fmt: skip
    return cells


def predict(cells: Sequence[Cell], parameters: Parameters) -> list[Floats]:
    """Log seconds of each cell's rows."""
    return [np.log(stage_times(c.links, c.op, c.algorithm, c.protocol, c.sizes, parameters)) for c in cells]


def with_platform(platform: Platform) -> Parameters:
    """Parameters that hold one platform only."""
    return Parameters({platform.name: platform}, {}, {}, {})


def fit_platform(name: str, rows: pd.DataFrame) -> Platform:
    """The platform's parameters that fit these rows best; `error` is the median on these same rows."""
    cells = cells_of(rows)
    keys = keys_of(name.split(".")[-1])
    start = np.log([start_of(key) for key in keys])
    low, high = (np.log([bounds_of(key)[side] for key in keys]) for side in (0, 1))

    def residuals(vector: Floats) -> Floats:
        platform = platform_from(name, dict(zip(keys, np.exp(vector), strict=True)))
        found = predict(cells, with_platform(platform))
        misses = [(p - c.log_time) * c.weight * _SHARPNESS for p, c in zip(found, cells, strict=True)]
        return np.concatenate([*misses, (vector - start) * _PULL])

    best = least_squares(residuals, start, bounds=(low, high), loss="soft_l1", max_nfev=100)
    platform = platform_from(name, dict(zip(keys, np.exp(best.x), strict=True)))
    found = predict(cells, with_platform(platform))
    miss = np.concatenate([np.abs(np.expm1(p - c.log_time)) for p, c in zip(found, cells, strict=True)])
    values = dict(zip(keys, np.exp(best.x), strict=True))
    return platform_from(name, values, float(np.median(miss)))
