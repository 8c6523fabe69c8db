"""A user's own measured table (CSV or Parquet, columns of docs/kernels.md): checked before any of it is believed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from simulator.cost.kernel.formats import canonical
from simulator.cost.kernel.index import FILES, build, grouped, modelled
from simulator.cost.kernel.measured import AXES, Tables
from simulator.cost.kernel.rows import FAMILIES
from simulator.errors import DataError, KernelError
from simulator.hardware.catalogue import find_device

OPS = tuple(FILES)
SLOWEST = 50.0
"""A table whose median row is this many times slower than the model is in another unit, or of another GPU."""
_TEXT = {"backend": "", "kv_dtype": "bfloat16"}
_CACHES = {"bfloat16": "bfloat16", "bf16": "bfloat16", "float16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8"}
"""Cache formats of attention that tables may state, and the name they are kept under."""
_WIDTHS = ("head_dim", "window_size")
_FIRST_LINE = 2
"""Line of row 0 in a CSV with a header."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row faster than the datasheet allows."""

    line: int
    op: str
    measured_s: float
    bound_s: float


@dataclass(frozen=True, slots=True)
class UserTable:
    """The rows of one GPU that can be used, and those that cannot be."""

    gpu: str
    source: str
    rows: pd.DataFrame
    suspects: tuple[Suspect, ...]
    others: int = 0
    """Rows of other GPUs in the file."""

    def tables(self) -> Tables:
        """What the measured provider asks."""
        parts = (self.rows[self.rows["op"] == op] for op in OPS)
        return build(self.gpu, self.source, (part for part in parts if not part.empty), len(self.suspects))


def read_user_table(path: Path, gpu: str) -> UserTable:
    """Rows of `gpu`. Raises DataError for a file, column, unit, format, duplicate or conflict that cannot be used."""
    frame = _read(path)
    frame["line"] = np.arange(len(frame)) + _FIRST_LINE
    where, name = str(path), find_device(gpu).name
    _check_columns(frame, where)
    total = len(frame)
    if "gpu" in frame.columns:
        frame = frame[[find_device(str(given)).name == name for given in frame["gpu"]]]
    if frame.empty:
        raise DataError(where=where, given=f"no rows of {name}", rule="a table has rows of its GPU")
    unknown = sorted(set(frame["op"].astype(str)) - set(OPS))
    if unknown:
        raise DataError(where=f"{where}: op", given=", ".join(unknown), rule=f"is one of {', '.join(OPS)}")
    parts = [_checked(frame[frame["op"] == op].assign(gpu=name), op, where) for op in OPS if (frame["op"] == op).any()]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    rows = pd.concat(parts, ignore_index=True)
    rows, suspects = _believed(rows, where)
    return UserTable(name, f"{path.name} (sha256 {digest})", rows, suspects, total - len(frame))


def _read(path: Path) -> pd.DataFrame:
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(where=str(path), given=path.suffix, rule="measured tables are .csv or .parquet")
    if not path.is_file():
        raise DataError(where=str(path), given="no such file", rule="measured tables are a readable file")
    try:
        return pd.read_csv(path, low_memory=False) if path.suffix == ".csv" else pd.read_parquet(path)
    except ImportError:
        raise DataError(
            where=str(path), given="", rule="Parquet needs pyarrow", way_out='pip install "shardsim[parquet]"'
        ) from None
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parser errors are ValueErrors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(where=str(path), given=reason, rule="measured tables are readable CSV or Parquet") from None


def _check_columns(frame: pd.DataFrame, where: str) -> None:
    missing = sorted({"op", "dtype", "time_s"} - set(frame.columns))
    if not missing:
        return
    near = [c for c in frame.columns if str(c).lower().startswith(("time", "latency"))]
    way_out = f"is it {near[0]}? Turn it into seconds" if missing == ["time_s"] and near else ""
    raise DataError(
        where=where, given=f"no {', '.join(missing)}", rule="columns are those of docs/kernels.md", way_out=way_out
    )


def _checked(rows: pd.DataFrame, op: str, where: str) -> pd.DataFrame:
    """Rows of one op with numbers as numbers and defaults filled in."""
    axes = tuple("past_kv_len" if axis == "keys" else axis for axis in AXES[FAMILIES[op].name])
    widths = _WIDTHS if op.endswith("attention") else ()
    full = rows.copy()
    for column, usual in _TEXT.items():
        full[column] = full[column].astype(object).fillna(usual).astype(str) if column in full.columns else usual
    if widths and "window_size" in full.columns:
        full["window_size"] = full["window_size"].fillna(0)
    elif widths:
        full["window_size"] = 0
    for column in (*axes, *widths, "time_s"):
        full[column] = _numbers(full, column, op, where)
    _check_formats(full, where)
    full["dtype"] = full["dtype"].map(lambda name: canonical(str(name)))
    full["kv_dtype"] = full["kv_dtype"].map(_CACHES)
    _check_repeats(full, ["backend", "dtype", "kv_dtype", *axes, *widths], where)
    return full[["op", "gpu", "line", "backend", "dtype", "kv_dtype", *axes, *widths, "time_s"]]


def _numbers(rows: pd.DataFrame, column: str, op: str, where: str) -> pd.Series:
    low = 0.0 if column in ("past_kv_len", "window_size") else np.nextafter(0.0, 1.0)
    if column not in rows.columns:
        raise DataError(where=where, given=f"no {column}", rule=f"{op} rows state it")
    numbers = pd.to_numeric(rows[column], errors="coerce").astype(float)
    wrong = ~(np.isfinite(numbers) & (numbers >= low))
    if wrong.any():
        given = f"line {rows.loc[wrong, 'line'].iloc[0]}: {rows.loc[wrong, column].iloc[0]}"
        raise DataError(where=f"{where}: {column}", given=given, rule=f"{op} rows: sizes and times are positive")
    return numbers


def _check_formats(rows: pd.DataFrame, where: str) -> None:
    for column, check in (("dtype", canonical), ("kv_dtype", _cache)):
        for value in rows[column].unique():
            try:
                check(str(value))
            except KernelError as error:
                line = rows.loc[rows[column] == value, "line"].iloc[0]
                raise DataError(
                    where=f"{where}: {column}", given=f"line {line}: {value}", rule=error.rule, way_out=error.way_out
                ) from None


def _cache(name: str) -> str:
    if name not in _CACHES:
        raise KernelError(given=name, rule=f"is one of {', '.join(_CACHES)}")
    return _CACHES[name]


def _check_repeats(rows: pd.DataFrame, shape: list[str], where: str) -> None:
    again = rows[rows.duplicated(shape, keep="first")]
    if again.empty:
        return
    second = again.iloc[0]
    first = rows[(rows[shape] == second[shape]).all(axis=1)].iloc[0]
    same = first["time_s"] == second["time_s"]
    raise DataError(
        where=where,
        given=f"lines {first['line']} and {second['line']}: {first['time_s']:g} s and {second['time_s']:g} s",
        rule="one shape is stated twice" if same else "two times conflict for one shape",
        way_out="keep one row a shape, e.g. the median of its repeats",
    )


def _believed(rows: pd.DataFrame, where: str) -> tuple[pd.DataFrame, tuple[Suspect, ...]]:
    """Rows that the datasheet allows, and the others. Raises DataError where most say that the unit is wrong."""
    suspects: list[Suspect] = []
    slowness: list[np.ndarray] = []
    for op in rows["op"].unique():
        family = FAMILIES[str(op)]
        for _, group in grouped(rows[rows["op"] == op].reset_index(drop=True), family):
            model, bound = modelled(group, family)
            measured = group["time_s"].to_numpy()
            slowness.append(measured / model)
            fast = np.flatnonzero(measured < bound)
            suspects += [Suspect(int(group["line"].iloc[i]), str(op), measured[i], bound[i]) for i in fast]
    median = float(np.median(np.concatenate(slowness)))
    if median > SLOWEST or 2 * len(suspects) > len(rows):
        given = f"the median row takes {median:.3g} of the expected time; {len(suspects)} of {len(rows)} beat the GPU"
        raise DataError(
            where=f"{where}: time_s", given=given, rule="times are in seconds, on the GPU that is named",
            way_out="divide milliseconds by 1e3, microseconds by 1e6",
        )  # fmt: skip
    kept = rows[~rows["line"].isin([s.line for s in suspects])]
    return kept.reset_index(drop=True), tuple(sorted(suspects, key=lambda s: s.line))
