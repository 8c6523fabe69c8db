"""Fit of every collective parameter, and the error on rows that a fit did not see.

Groups are dealt into three parts; each part is predicted by a fit on the other two, so every row is unseen once.
A second check leaves out one GPU kind at a time. What is shipped is the fit on all rows.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.cost.collective.parameters import Parameters, Platform
from simulator.validation.fit_custom import fit_kernel, predict_rows
from simulator.validation.fit_networks import fit_networks
from simulator.validation.fit_platforms import OPS, cells_of, fit_platform, predict, rows_with_links
from simulator.validation.fit_xgmi import PARENT, PLATFORM, xgmi_kernel, xgmi_platform
from simulator.validation.libraries import library_key
from simulator.validation.tables import read_table

PARTS = 3
# Started by one process for all GPUs, which serialises its launches: another regime than one process per GPU.
_OTHER_LAUNCH = "single process"
_COLLECTIVE_LIBRARIES = ("nccl", "rccl", "oneccl")
Results = dict[str, Any]


def measured_rows(data: Path) -> pd.DataFrame:
    """Rows of collectives.csv that can be fitted, with links, platform and library key."""
    frame = read_table(data, "collectives")
    frame = frame[(frame.time_s > 0) & frame.op.isin(OPS) & ~frame.notes.fillna("").str.contains(_OTHER_LAUNCH)]
    rows = rows_with_links(frame)
    keys = [
        library_key(lib, "" if v != v else str(v)) for lib, v in zip(rows.library, rows.library_version, strict=True)
    ]
    rows = rows.assign(
        key=pd.Series(keys, rows.index, dtype=object), network=[links.network for links in rows["links"]], part=-1
    )
    for _, names in rows.groupby(["platform", "key"]).group_id:
        for number, group in enumerate(sorted(names.unique())):
            rows.loc[rows.group_id == str(group), "part"] = number % PARTS
    return rows


def is_nccl(rows: pd.DataFrame) -> "pd.Series[bool]":
    """NCCL's own rows, and engines' rows on PCIe groups of more than two, where engines call NCCL."""
    fallback = rows.platform.str.endswith(".pcie") & (rows.total_gpus > 2)
    return rows.key.isin(_COLLECTIVE_LIBRARIES) | (fallback & (rows["mode"] == "graph"))


def fit_all(rows: pd.DataFrame) -> tuple[Parameters, Results]:
    """Parameters fitted on these rows, with their error on them, by block."""
    errors: Results = {"platforms": {}, "networks": {}, "custom": {}}
    nccl_rows = rows[is_nccl(rows)]
    platforms: dict[str, Platform] = {}
    for name, group in nccl_rows[nccl_rows.nodes_ == 1].groupby("platform"):
        platforms[str(name)] = fit_platform(str(name), group)
        errors["platforms"][name] = {"rows": len(group), "error": platforms[str(name)].error}
    platforms = {name: with_eager(platform, rows) for name, platform in platforms.items()}
    if PARENT in platforms:
        platforms.setdefault(PLATFORM, xgmi_platform(platforms[PARENT]))
    across = nccl_rows[(nccl_rows.nodes_ > 1)]
    networks, errors["networks"] = fit_networks(across, platforms)
    engines = rows[~is_nccl(rows) & (rows["mode"] == "graph")]
    kernels: dict[str, dict[str, Any]] = {}
    for (key, on), group in engines.groupby(["key", "platform"]):
        kernel = fit_kernel(str(key), str(on), group, platforms)
        kernels.setdefault(str(key), {})[str(on)] = kernel
        errors["custom"][f"{key} {on}"] = {"rows": len(group), "error": kernel.error}
    if PLATFORM in platforms and PLATFORM not in kernels.setdefault("vllm", {}):
        kernels["vllm"][PLATFORM], errors["custom"][f"vllm {PLATFORM}"] = xgmi_kernel(platforms)
    return Parameters(platforms, networks, kernels, {}), errors


def with_eager(platform: Platform, rows: pd.DataFrame) -> Platform:
    """The platform with its host floor and slowdown, read off rows that ran both inside and outside a graph."""
    mine = rows[(rows.platform == platform.name) & rows["mode"].isin(("graph", "eager"))]
    small = mine[(mine["mode"] == "eager") & (mine.message_bytes <= 2.0**15)]
    floors = dict(platform.eager_floor_s)
    hosts = pd.Series(np.where(small.gpu.str.match("G[BH]"), "arm", "x86"), small.index)
    floors |= {str(host): float(times.median()) for host, times in small.time_s.groupby(hosts)}
    by_engine = small.time_s.groupby([small.key.astype(str), hosts])
    floors |= {f"{key} {host}": float(times.median()) for (key, host), times in by_engine}
    large = mine[mine.message_bytes >= 2.0**26]
    pairs = large.pivot_table(index=["gpu", "total_gpus", "key", "message_bytes"], columns="mode", values="time_s")
    slowdown = 1.0
    if {"graph", "eager"} <= set(pairs):
        slowdown = max(float((pairs["eager"] / pairs["graph"]).median()), 1.0)
    return replace(platform, eager_floor_s=floors, eager_slowdown=slowdown)


def unseen_errors(rows: pd.DataFrame, parameters: Parameters) -> "pd.Series[float]":
    """Absolute relative error of each row that these parameters can price, by the row's index."""
    found: list[pd.Series[float]] = []
    of_nccl = is_nccl(rows) & rows.platform.isin(list(parameters.platforms))
    if of_nccl.any():
        cells = cells_of(rows[of_nccl])
        for cell, logs in zip(cells, predict(cells, parameters), strict=True):
            found.append(pd.Series(np.abs(np.expm1(logs - cell.log_time)), index=cell.index))
    for key, group in rows[~is_nccl(rows) & (rows["mode"] == "graph")].groupby("key"):
        priced = group[group.platform.isin(list(parameters.platforms))]
        if str(key) in parameters.custom and len(priced):
            miss = predict_rows(priced, str(key), parameters) - np.log(priced.time_s.to_numpy(float))
            found.append(pd.Series(np.abs(np.expm1(miss)), index=priced.index))
    return pd.concat(found) if found else pd.Series(dtype=float)


def cross_check(rows: pd.DataFrame) -> Results:
    """Median error on unseen rows, by platform and by network and engine: by thirds of the groups, by GPU kind."""
    by_part = pd.concat(
        [unseen_errors(rows[rows.part == part], fit_all(rows[rows.part != part])[0]) for part in range(PARTS)]
    )
    return {"thirds": summary(rows, by_part), "kinds": kind_check(rows)}


def kind_check(rows: pd.DataFrame) -> Results:
    """Median error of NCCL's rows of one node on each GPU kind, by a fit on the other kinds of its platform."""
    found: Results = {}
    nccl_rows = rows[is_nccl(rows) & (rows.nodes_ == 1)]
    for name, group in nccl_rows.groupby("platform"):
        for gpu in sorted(group.gpu.unique()) if group.gpu.nunique() > 1 else ():
            platform = fit_platform(str(name), group[group.gpu != gpu])
            errors = unseen_errors(group[group.gpu == gpu], Parameters({platform.name: platform}, {}, {}, {}))
            found[f"{gpu} from the other {name}"] = {"rows": len(errors), "error": float(errors.median())}
    return found


def summary(rows: pd.DataFrame, errors: "pd.Series[float]") -> Results:
    """Median of the errors by block, with the number of rows."""
    seen = rows.loc[errors.index].assign(error=errors)
    where = np.where(
        seen.nodes_ > 1,
        "network " + seen.network,
        np.where(is_nccl(seen), "platform ", "custom " + seen.key.astype(str) + " "),
    )
    name = pd.Series(where, index=seen.index) + np.where(seen.nodes_ > 1, "", seen.platform)
    grouped = seen.groupby(name).error
    return {
        str(k): {"rows": int(n), "error": float(e)}
        for (k, n), e in zip(grouped.size().items(), grouped.median(), strict=True)
    }


def as_json(parameters: Parameters, fitted: Results, unseen: Results, meta: Mapping[str, str]) -> Results:
    """The data file: parameters rounded to four figures, what they were fitted on, and both errors."""
    held = unseen.get("thirds", {})
    platforms = {}
    for name, platform in parameters.platforms.items():
        block = asdict(platform)
        block.pop("name")
        block["error"] = held.get(f"platform {name}", {}).get("error", platform.error)
        platforms[name] = block
    custom = {
        key: {name: asdict(kernel) for name, kernel in kernels.items()} for key, kernels in parameters.custom.items()
    }
    networks = {
        key: {name: asdict(stage) for name, stage in stages.items()} for key, stages in parameters.networks.items()
    }
    body = {"platforms": platforms, "networks": networks, "custom": custom}
    return {"schema": 1, **meta, "fitted": rounded(fitted), "unseen": rounded(unseen), **rounded(body)}


def rounded(value: Any) -> Any:
    """Floats to four significant figures, everywhere inside."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
