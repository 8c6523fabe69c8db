"""What the readers of recorded traffic share: every error names the file and the line."""

import csv
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from simulator.errors import WorkloadError
from simulator.workload.requests import Requests

Cells = tuple[str, ...]


class Rows:
    """Requests as they are read. `longest`: tokens of prompt and answer that the model can hold; 0: any.

    `drop`: requests that are too long are left out instead of refused.
    """

    def __init__(self, path: Path, longest: int = 0, drop: bool = False) -> None:
        self.path, self.longest, self.drop = path, longest, drop
        self.left_out = 0
        self.times_s: list[float] = []
        self.given: list[int] = []
        self.asked: list[int] = []
        self.hashes: list[tuple[int, ...]] = []

    def add(self, where: str, time_s: float, given: int, asked: int, hashes: tuple[int, ...] = ()) -> None:
        """One request. Raises WorkloadError for a time before the last one's, and for one that is too long."""
        earliest = self.times_s[-1] if self.times_s else 0.0
        if time_s < earliest:
            raise WorkloadError(
                where=where, given=f"{time_s:g} s after {earliest:g} s", rule="times must not go back",
                way_out="sort the trace by time",
            )  # fmt: skip
        if self.longest and given + asked > self.longest:
            if self.drop:
                self.left_out += 1
                return
            raise WorkloadError(
                where=where, given=f"{given} + {asked} tokens", rule=f"the model's context holds {self.longest}",
                way_out="set traffic.too_long: drop to leave such requests out, or use a model with a longer context",
            )  # fmt: skip
        self.times_s.append(time_s)
        self.given.append(given)
        self.asked.append(asked)
        self.hashes.append(hashes)

    def requests(self, prefix_tokens: int = 512) -> Requests:
        """All of them. Raises WorkloadError where there are none."""
        if not self.times_s:
            raise WorkloadError(where=str(self.path), given="", rule="holds no request")
        shared = tuple(self.hashes) if any(self.hashes) else ()
        return Requests(
            np.array(self.times_s, dtype=np.float64), np.array(self.given, dtype=np.int64),
            np.array(self.asked, dtype=np.int64), shared, prefix_tokens,
        )  # fmt: skip


def opened(path: Path) -> Any:
    """The file as text; WorkloadError where it cannot be read."""
    try:
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise WorkloadError(where=str(path), given=str(error.strerror), rule="cannot be read") from error


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Cells]]:
    """(file and line, the cells of these columns) of each row that is not empty, columns found by their names.

    Raises WorkloadError for missing columns, rows of another length than the header's, and text that is not UTF-8.
    """
    with opened(path) as handle:
        reader = csv.reader(handle)
        try:
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in columns if name not in header]
            if missing:
                rule = f"needs the columns {', '.join(missing)}"
                raise WorkloadError(where=f"{path}: line 1", given=",".join(header)[:120], rule=rule)
            places = [header.index(name) for name in columns]
            for cells in reader:
                where = f"{path}: line {reader.line_num}"
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise WorkloadError(where=where, given=f"{len(cells)} cells", rule=f"the header has {len(header)}")
                yield where, tuple(cells[place] for place in places)
        except (UnicodeDecodeError, csv.Error) as error:
            raise WorkloadError(
                where=f"{path}: line {reader.line_num}", given="", rule=f"is no CSV: {error}"
            ) from error


def whole_number(where: str, value: Any, least: int = 1) -> int:
    """A count of tokens; WorkloadError for anything else."""
    try:
        tokens = int(value)
    except (TypeError, ValueError):
        tokens = least - 1
    if isinstance(value, bool | float) or tokens < least:
        raise WorkloadError(where=where, given=repr(value), rule=f"must be a whole number of at least {least}")
    return tokens


def seconds(where: str, value: Any) -> float:
    """A time that is finite and not negative; WorkloadError for anything else."""
    try:
        time_s = float(value)
    except (TypeError, ValueError):
        time_s = float("nan")
    if isinstance(value, bool) or not isfinite(time_s) or time_s < 0.0:
        raise WorkloadError(where=where, given=repr(value), rule="must be a number of seconds, not negative")
    return time_s
