"""Tables for the measured provider from the aiconfigurator package (extra `silicon`).

The package's Parquet files are read once per GPU and kept as one `.npz` under the user's cache folder, its name
holding the package's version and a digest of the fitted parameters the ratios were taken against.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from simulator.cost.kernel.families import attention_unit_names
from simulator.cost.kernel.formats import canonical
from simulator.cost.kernel.measured import AXES, Table, Tables, group_name, make_table
from simulator.cost.kernel.parameters import fitted
from simulator.cost.kernel.rows import FAMILIES, Family
from simulator.errors import CalibrationError, KernelError
from simulator.hardware.catalogue import find_device

PACKAGE = "aiconfigurator-core"
RELEASE = "0.12.0"
"""The one version whose columns are known (pinned by the extra)."""
CACHE_FORMAT = 2
SYSTEMS = {
    "A100-80GB-SXM": "a100_sxm",
    "H100-SXM": "h100_sxm",
    "H200-SXM": "h200_sxm",
    "B200-SXM": "b200_sxm",
    "GB200-NVL72": "gb200",
    "B300-SXM": "b300_sxm",
    "GB300-NVL72": "gb300",
    "L40S": "l40s",
}
"""Folder of each GPU in the package (0.12.0)."""
FILES = {
    "gemm": "gemm/*/*/gemm_perf.parquet",
    "context_attention": "attention/*/*/context_attention_perf.parquet",
    "generation_attention": "attention/*/*/generation_attention_perf.parquet",
    "context_mla": "mla/*/*/context_mla_perf.parquet",
    "generation_mla": "mla/*/*/generation_mla_perf.parquet",
}
_RENAMED = {
    "gemm_dtype": "dtype",
    "attn_dtype": "dtype",
    "mla_dtype": "dtype",
    "kv_cache_dtype": "kv_dtype",
    "num_key_value_heads": "num_kv_heads",
}
_CHUNK = 20000
"""Rows timed by the model at once: a GEMM row tries 88 configurations."""
Progress = Callable[[str, float], None]
"""Told what is being read and how much is done, 0 to 1."""


def _quiet(_: str, __: float) -> None:
    return None


def package_tables(gpu: str, progress: Progress = _quiet, cache: Path | None = None) -> Tables:
    """The package's tables of `gpu`, from the cache or read and indexed now.

    A corrupt or outdated cache is rebuilt. Raises CalibrationError where the extra is not installed, of another
    version or has nothing on this GPU.
    """
    name = find_device(gpu).name
    folder, release = _package()
    root = folder / "systems" / "data" / SYSTEMS.get(name, name)
    if not root.is_dir():
        raise CalibrationError(given=gpu, rule=f"{PACKAGE} {release} measures {', '.join(SYSTEMS)}")
    kept = (cache or _cache_folder()) / f"kernels-{release}-{_digest()}-{root.name}.npz"
    source = f"{PACKAGE}=={release}"
    found = read_cache(kept, name, source)
    if found is None:
        found = build(name, source, _package_frames(root, name, progress))
        write_cache(found, kept)
    return found


def _package() -> tuple[Path, str]:
    spec = find_spec("aiconfigurator_core")
    try:
        release = version(PACKAGE)
    except PackageNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise CalibrationError(
            given=PACKAGE, rule="measured tables need the extra", way_out='pip install "shardsim[silicon]"'
        )
    if release != RELEASE:
        raise CalibrationError(
            given=f"{PACKAGE} {release}", rule=f"its tables are read as of {RELEASE}",
            way_out=f'pip install "{PACKAGE}=={RELEASE}"',
        )  # fmt: skip
    return Path(spec.submodule_search_locations[0]), release


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardsim"


def _digest() -> str:
    content = files("simulator.cost").joinpath("data", "kernels.json").read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def _package_frames(root: Path, gpu: str, progress: Progress) -> Iterator[pd.DataFrame]:
    newest: dict[tuple[str, str], Path] = {}
    for op, pattern in FILES.items():
        for path in sorted(root.glob(pattern)):
            key = (op, path.parts[-3])
            if key not in newest or _release(path) > _release(newest[key]):
                newest[key] = path
    total = sum(path.stat().st_size for path in newest.values())
    done = 0
    for (op, backend), path in newest.items():
        progress(f"indexing {path.relative_to(root)}", done / total)
        done += path.stat().st_size
        frame = pd.read_parquet(path).rename(columns=_RENAMED)
        yield _as_rows(frame, op).assign(op=op, gpu=gpu, backend=backend)


def _release(path: Path) -> tuple[int, ...]:
    """Numbers of a version folder: 1.3.0rc20 -> (1, 3, 0, 20)."""
    return tuple(
        int("".join(c for c in part if c.isdigit()) or 0) for part in path.parts[-2].replace("rc", ".").split(".")
    )


def _as_rows(frame: pd.DataFrame, op: str) -> pd.DataFrame:
    """The package's columns and milliseconds as kernels.csv's columns and seconds."""
    frame = frame.assign(time_s=frame["latency"] * 1e-3)
    if op.startswith("context"):
        frame = frame[frame["step"] == 0].assign(seq_len=lambda f: f["isl"])
    if op.startswith("generation"):
        frame = frame.assign(past_kv_len=frame["step"] + frame["isl"] - 1)
    usable: pd.DataFrame = frame.loc[np.isfinite(frame["time_s"]) & (frame["time_s"] > 0)]
    return usable


def build(gpu: str, source: str, frames: Iterator[pd.DataFrame], suspects: int = 0) -> Tables:
    """Group rows, time them by the model, keep the ratios.

    Rows beyond the datasheet are left out and added to the `suspects` left out earlier.
    """
    groups: dict[str, Table] = {}
    for frame in frames:
        family = FAMILIES[str(frame["op"].iloc[0])]
        for name, rows in grouped(frame.reset_index(drop=True), family):
            model, bound = modelled(rows, family)
            measured = rows["time_s"].to_numpy(dtype=np.float64)
            believed = measured >= bound
            suspects += int((~believed).sum())
            if believed.any():
                points = _points(rows, family)
                groups[name] = make_table(points[believed], measured[believed], model[believed]).with_error()
    return Tables(gpu, source, groups, suspects)


def _points(rows: pd.DataFrame, family: Family) -> np.ndarray:
    if family.name.endswith("decode"):
        rows = rows.assign(keys=rows["past_kv_len"] + 1)
    return rows[list(AXES[family.name])].to_numpy(dtype=np.float64)


def grouped(frame: pd.DataFrame, family: Family) -> Iterator[tuple[str, pd.DataFrame]]:
    """(group's name, its rows); spellings of one format share a group, and formats no query can ask for have none."""
    detail = [
        c for c in ("dtype", "kv_dtype", "head_dim", "window_size") if c in frame.columns and frame[c].notna().any()
    ]
    parts: dict[str, list[pd.DataFrame]] = {}
    for values, rows in frame.groupby(["backend", *detail], sort=False):
        row = dict(zip(("backend", *detail), values, strict=True))
        try:
            parts.setdefault(row_group(family.name, row), []).append(rows)
        except KernelError:
            continue
    for name, found in parts.items():
        yield name, found[0] if len(found) == 1 else pd.concat(found)


def row_group(family: str, row: dict[str, object]) -> str:
    """The group of a measured row; queries name theirs the same way."""
    backend, dtype = str(row["backend"]), str(row["dtype"])
    if family == "gemm":
        return group_name(family, backend, canonical(dtype))
    names = attention_unit_names(dtype, str(row.get("kv_dtype", "bfloat16")))
    if family.startswith("latent"):
        return group_name(family, backend, names[1])
    window, width = float(str(row.get("window_size", 0) or 0)), float(str(row["head_dim"]))
    # Decode rows state bf16 queries whatever the cache.
    chosen = names if family == "prefill" else names[1:]
    return group_name(family, backend, *chosen, int(width), int(window))


def modelled(rows: pd.DataFrame, family: Family) -> tuple[np.ndarray, np.ndarray]:
    """(model seconds, bound) of rows of one group, by the kernel a query would be priced with."""
    sample = rows.iloc[0].to_dict() | {"kernel_source": ""}
    fit = fitted(family.name, family.key(sample))
    model, bound = [], []
    for start in range(0, len(rows), _CHUNK):
        case = family.case(rows.iloc[start : start + _CHUNK].assign(kernel_source=""))
        model.append(np.maximum(case.model(fit.parameters), case.bound_s))
        bound.append(case.bound_s)
    return np.concatenate(model), np.concatenate(bound)


def write_cache(tables: Tables, path: Path) -> None:
    """Keep tables, by rename at the end so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps(
        {
            "format": CACHE_FORMAT, "gpu": tables.gpu, "source": tables.source, "suspects": tables.suspects,
            "groups": {name: table.error for name, table in tables.groups.items()},
        }
    )  # fmt: skip
    arrays: dict[str, np.ndarray] = {"about": np.array(about)}
    for place, table in enumerate(tables.groups.values()):
        arrays[f"points{place}"], arrays[f"ratio{place}"] = table.points, table.log_ratio
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    part.replace(path)


def read_cache(path: Path, gpu: str, source: str) -> Tables | None:
    """Tables kept earlier; None where there are none, or they are corrupt or of another source: to be rebuilt."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            about = json.loads(str(kept["about"]))
            if (about["format"], about["gpu"], about["source"]) != (CACHE_FORMAT, gpu, source):
                return None
            errors: dict[str, float | None] = about["groups"]
            groups = {
                n: Table(kept[f"points{i}"], kept[f"ratio{i}"], error) for i, (n, error) in enumerate(errors.items())
            }
            return Tables(gpu, source, groups, int(about["suspects"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
