"""A sweep's results on disk as they come, so that a run that was cut off goes on where it stopped.

A folder holds `journal.json` (whose sweep it is), `results/NAME/part-00001.parquet` and on (full parts), and
`tail.jsonl` (what is in no part yet, a line a result, written through at once). A process killed at any instant loses
at most the line it was writing, and that line's task is run again. Without pyarrow all results stay in the tail.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar, get_type_hints

import pandas as pd

from simulator.errors import OutputError
from simulator.planning.build_id import build_id
from simulator.planning.codec import TAG, decode, encode
from simulator.planning.execute import Executor
from simulator.planning.fingerprint import Fingerprints

try:
    import fcntl
except ImportError:  # not on Windows: there, two runs on one journal are not told apart
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
R = TypeVar("R")
PART_ROWS = 1000
"""Results of one Parquet file: large enough to compress, small enough to write in a few milliseconds."""
MARK, TAIL, RESULTS = "journal.json", "tail.jsonl", "results"


class Journal:
    """Results by the key of their task. Use as a context; `signature` is text that names the sweep's inputs.

    Raises OutputError for a folder that holds something else, another sweep's results, or is in use.
    """

    def __init__(self, folder: Path, signature: str, *, part_rows: int = PART_ROWS) -> None:
        self.folder, self.part_rows = folder, part_rows
        self._signature = sha256(f"{build_id()}\n{signature}".encode()).hexdigest()
        self._held: dict[str, Any] = {}
        self._pending: list[dict[str, Any]] = []
        self._columnar = find_spec("pyarrow") is not None
        self._tail: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claim()
            self._tail = (self.folder / TAIL).open("a+b")
            self._lock(self._tail)
            self._load()
        except OSError as failure:
            raise _unwritable(self.folder, failure) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._tail is not None
        with suppress(OSError):  # the tail holds everything already; the parts are only for readers
            self._roll()
        self._tail.close()

    def __len__(self) -> int:
        return len(self._held)

    def _claim(self) -> None:
        """Whose folder this is: ours, nobody's, or another's."""
        mark = self.folder / MARK
        if not mark.exists():
            if any(path.name != "journal.part" for path in self.folder.iterdir()):
                raise OutputError(
                    given=str(self.folder), rule="is not empty and holds no journal", way_out="choose a new folder"
                )
            part = mark.with_suffix(".part")
            part.write_text(json.dumps({"shardsim": build_id(), "sweep": self._signature}) + "\n", encoding="utf-8")
            part.replace(mark)
            return
        try:
            sweep = json.loads(mark.read_text(encoding="utf-8"))["sweep"]
        except (ValueError, KeyError, TypeError):
            raise OutputError(given=str(mark), rule="is no journal", way_out="choose a new folder") from None
        if sweep != self._signature:
            raise OutputError(
                given=str(self.folder),
                rule="holds the results of another plan, or of another version of this program",
                way_out="choose a new folder, or remove it",
            )

    def _lock(self, tail: BinaryIO) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(tail, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            tail.close()
            raise OutputError(given=str(self.folder), rule="is in use by another run") from None

    def _load(self) -> None:
        """Parts, then the tail up to its last whole line; what a kill tore off is cut away."""
        for path in sorted((self.folder / RESULTS).glob("*/part-*.parquet")):
            self._held.update(_part(path, self._columnar))
        assert self._tail is not None
        self._tail.seek(0)
        whole = 0
        for line in self._tail:
            row = _row(line)
            if row is None:
                break
            whole += len(line)
            if row["key"] not in self._held:
                self._pending.append(row)
                self._held[row["key"]] = row["value"]
        self._tail.truncate(whole)
        self._tail.seek(0, os.SEEK_END)

    def get(self, key: str) -> Any:
        """The JSON value kept for a task, or KeyError."""
        return self._held[key]

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def add(self, key: str, name: str, value: object) -> None:
        """Keep a result. It is with the operating system when this returns: a killed process loses nothing of it."""
        assert self._tail is not None, "used as a context"
        row = {"key": key, "name": name, "value": encode(value)}
        try:
            self._tail.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
            self._tail.flush()
            self._held[key] = row["value"]
            self._pending.append(row)
            if self._columnar and len(self._pending) >= self.part_rows:
                self._roll()
        except OSError as failure:
            raise _unwritable(self.folder, failure) from None

    def _roll(self) -> None:
        """Pending rows become Parquet files, then the tail is emptied; killed between, both hold them: no harm."""
        if not self._columnar or not self._pending:
            return
        assert self._tail is not None
        for name in dict.fromkeys(row["name"] for row in self._pending):
            rows = [row for row in self._pending if row["name"] == name]
            folder = self.folder / RESULTS / name
            folder.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(path.stem.split("-")[1]) for path in folder.glob("part-*.parquet")), default=0)
            hidden = folder / f".part-{number:05d}"
            pd.DataFrame([line for row in rows for line in _flat(row)]).to_parquet(hidden, index=False)
            hidden.replace(folder / f"part-{number:05d}.parquet")
        self._tail.truncate(0)
        self._pending.clear()


def _unwritable(folder: Path, failure: OSError) -> OutputError:
    return OutputError(where=str(folder), given="", rule=f"cannot be written: {failure.strerror or failure}")


def _part(path: Path, columnar: bool) -> dict[str, Any]:
    """Key and JSON value of each row of a part."""
    if not columnar:
        raise OutputError(
            given=str(path), rule="needs pyarrow to be read", way_out="pip install 'shardsim[parquet]', or start afresh"
        )
    try:
        frame = pd.read_parquet(path, columns=["key", "value"]).dropna()
        return dict(zip(frame["key"], map(json.loads, frame["value"]), strict=True))
    except (OSError, ValueError, KeyError) as failure:
        raise OutputError(given=str(path), rule=f"cannot be read: {failure}", way_out="remove it") from None


def _row(line: bytes) -> dict[str, Any] | None:
    """A whole row, or None for one that was torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"key", "name", "value"} <= row.keys() else None


def _flat(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A result's lines in the table: its scalars as columns, for people; the first line has the JSON for resuming.

    A result that is a list has a line an item.
    """
    value = row["value"]
    items = value if isinstance(value, list) and value else [value]
    lines = [{"key": row["key"], "item": i, "value": None, **_columns(item, "")} for i, item in enumerate(items)]
    lines[0]["value"] = json.dumps(value, separators=(",", ":"))
    return lines


def _columns(item: Any, prefix: str) -> dict[str, Any]:
    """Scalars by dotted name. A column is of one type in every part: numbers are floats, as None would make them."""
    found: dict[str, Any] = {}
    for name, held in item.items() if isinstance(item, dict) else ():
        if isinstance(held, dict):
            found |= _columns(held, f"{prefix}{name}.")
        elif name != TAG and isinstance(held, bool | int | float | str):
            found[f".{prefix}{name}"] = held if isinstance(held, str) else float(held)
    return found


class Resuming:
    """An executor that asks another only for what the journal does not hold, and keeps what it gets.

    Tasks are told apart by what they hold (see `Fingerprints`). Results are dataclasses, tuples and scalars, of the
    type that the function's annotation says. Arguments bound by functools.partial are part of the task.
    """

    def __init__(self, executor: Executor, journal: Journal) -> None:
        self.executor, self.journal = executor, journal
        self._prints = Fingerprints()

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in the order of the tasks, each as soon as it and those before it are there."""
        plain, bound = (function.func, (function.args, function.keywords)) if isinstance(function, partial) else (
            function, None)  # fmt: skip
        name, kind = plain.__name__, get_type_hints(plain)["return"]
        keys = [self._prints.of((plain, bound, task)) for task in tasks]
        missing: dict[str, int] = {}
        for index, key in enumerate(keys):
            if key not in self.journal:
                missing.setdefault(key, index)
        coming = self._run(function, tasks, list(missing.values()))
        fresh: dict[str, R] = {}
        for key in keys:
            while key not in self.journal:
                index, result = next(coming)
                self.journal.add(keys[index], name, result)
                fresh[keys[index]] = result
            # What was just computed equals what the journal would give back, which takes a while to read.
            yield fresh[key] if key in fresh else decode(kind, self.journal.get(key))

    def _run(self, function: Callable[[T], R], tasks: Sequence[T], todo: Sequence[int]) -> Iterator[tuple[int, R]]:
        """(index into `tasks`, result), as they come where the executor can tell, else in order."""
        some = [tasks[index] for index in todo]
        unordered = getattr(self.executor, "run", None)
        numbered = unordered(function, some) if unordered is not None else enumerate(self.executor.map(function, some))
        for number, result in numbered:
            yield todo[number], result
