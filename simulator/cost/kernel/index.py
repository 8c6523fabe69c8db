"""Tables for the measured provider: from the aiconfigurator package (extra `silicon`), or from a user's own file.

The package's Parquet files are read once per GPU and kept as one `.npz` under the user's cache folder, its name
holding the package's version and a digest of the fitted parameters the ratios were taken against. A user's CSV or
Parquet has the columns of docs/kernels.md.
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
from simulator.errors import CalibrationError, DataError, KernelError
from simulator.hardware.catalogue import find_device

PACKAGE = "aiconfigurator-core"
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
_FILES = {
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
Progress = Callable[[str], None]


def _quiet(_: str) -> None:
    return None


def package_tables(gpu: str, progress: Progress = _quiet, cache: Path | None = None) -> Tables:
    """The package's tables of `gpu`, from the cache or read and indexed now (`progress` is told of every file).

    Raises CalibrationError where the extra is not installed or has nothing on this GPU.
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


def user_tables(path: Path, gpu: str) -> Tables:
    """Tables from a user's CSV or Parquet. Raises DataError for missing columns, wrong units or no rows of `gpu`."""
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(where=str(path), given=path.suffix, rule="measured tables are .csv or .parquet")
    if not path.is_file():
        raise DataError(where=str(path), given="no such file", rule="measured tables are a readable file")
    frame = pd.read_csv(path, low_memory=False) if path.suffix == ".csv" else pd.read_parquet(path)
    missing = {"op", "backend", "dtype", "time_s"} - set(frame.columns)
    if missing:
        raise DataError(
            where=str(path), given=f"no {', '.join(sorted(missing))}", rule="columns are those of docs/kernels.md"
        )
    name = find_device(gpu).name
    if "gpu" in frame.columns:
        frame = frame[[find_device(str(g)).name == name for g in frame["gpu"]]]
    if frame.empty:
        raise DataError(where=str(path), given=f"no rows of {name}", rule="a table has rows of its GPU")
    if (frame["time_s"] > 60).any():
        worst = float(frame["time_s"].max())
        raise DataError(
            where=f"{path}: time_s", given=f"{worst:g}", rule="times are in seconds", way_out="divide by 1e3 or 1e6"
        )
    frames = [frame[frame["op"] == op].assign(gpu=name) for op in _FILES]
    for rows in frames:
        _check_sizes(rows, str(path))
    return build(name, str(path), (rows for rows in frames if not rows.empty))


def _check_sizes(rows: pd.DataFrame, where: str) -> None:
    """Raises DataError for rows of one op whose sizes are not all stated and positive."""
    if rows.empty:
        return
    op = str(rows["op"].iloc[0])
    needed = ["past_kv_len" if axis == "keys" else axis for axis in AXES[FAMILIES[op].name]]
    for column in (*needed, "time_s"):
        low = 0.0 if column == "past_kv_len" else np.nextafter(0.0, 1.0)
        if column not in rows.columns or not (rows[column] >= low).all():
            raise DataError(
                where=f"{where}: {column}", given=f"{op} rows", rule="sizes and times are stated and positive"
            )


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
    return Path(spec.submodule_search_locations[0]), release


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shardsim"


def _digest() -> str:
    content = files("simulator.cost").joinpath("data", "kernels.json").read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def _package_frames(root: Path, gpu: str, progress: Progress) -> Iterator[pd.DataFrame]:
    for op, pattern in _FILES.items():
        newest: dict[str, Path] = {}
        for path in sorted(root.glob(pattern)):
            backend = path.parts[-3]
            if backend not in newest or _release(path) > _release(newest[backend]):
                newest[backend] = path
        for backend, path in newest.items():
            progress(str(path.relative_to(root)))
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


def build(gpu: str, source: str, frames: Iterator[pd.DataFrame]) -> Tables:
    """Group rows, time them by the model, keep the ratios; rows beyond the datasheet are counted and left out."""
    groups: dict[str, Table] = {}
    suspects = 0
    for frame in frames:
        family = FAMILIES[str(frame["op"].iloc[0])]
        for name, rows in _grouped(frame.reset_index(drop=True), family):
            model, bound = _modelled(rows, family)
            measured = rows["time_s"].to_numpy(dtype=np.float64)
            believed = measured >= bound
            suspects += int((~believed).sum())
            if believed.any():
                points = _points(rows, family)
                groups[name] = make_table(points[believed], measured[believed], model[believed])
    return Tables(gpu, source, groups, suspects)


def _points(rows: pd.DataFrame, family: Family) -> np.ndarray:
    if family.name.endswith("decode"):
        rows = rows.assign(keys=rows["past_kv_len"] + 1)
    return rows[list(AXES[family.name])].to_numpy(dtype=np.float64)


def _grouped(frame: pd.DataFrame, family: Family) -> Iterator[tuple[str, pd.DataFrame]]:
    detail = [
        c for c in ("dtype", "kv_dtype", "head_dim", "window_size") if c in frame.columns and frame[c].notna().any()
    ]
    for values, rows in frame.groupby(["backend", *detail], sort=False):
        row = dict(zip(("backend", *detail), values, strict=True))
        try:
            name = row_group(family.name, row)
        except KernelError:
            continue  # a format that no query can ask for
        yield name, rows


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


def _modelled(rows: pd.DataFrame, family: Family) -> tuple[np.ndarray, np.ndarray]:
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
        {"gpu": tables.gpu, "source": tables.source, "suspects": tables.suspects, "groups": list(tables.groups)}
    )
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
            if (about["gpu"], about["source"]) != (gpu, source):
                return None
            groups = {n: Table(kept[f"points{i}"], kept[f"ratio{i}"]) for i, n in enumerate(about["groups"])}
            return Tables(gpu, source, groups, int(about["suspects"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
