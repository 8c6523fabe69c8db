"""Recorded traffic. Every error names the file and the line."""

import csv
import json
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from simulator.errors import WorkloadError
from simulator.workload.requests import Requests

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE_BLOCK_TOKENS = 512
"""Tokens of one hashed block (Mooncake, FAST'25, open-sourced traces, 2025-02)."""
Row = tuple[float, int, int, tuple[int, ...]]


def read_azure_csv(path: Path) -> Requests:
    """An Azure LLM inference trace: TIMESTAMP, ContextTokens, GeneratedTokens; time counts from the first row.

    Source of the format: github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md. Raises WorkloadError.
    """
    rows: list[Row] = []
    start: datetime | None = None
    with _open(path) as handle:
        reader = csv.reader(handle)
        header = next(reader, [])
        missing = [name for name in AZURE_COLUMNS if name not in header]
        if missing:
            raise WorkloadError(
                where=f"{path}: line 1", given=",".join(header), rule=f"needs the columns {', '.join(missing)}"
            )
        at, given, asked = (header.index(name) for name in AZURE_COLUMNS)
        for cells in reader:
            where = f"{path}: line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise WorkloadError(where=where, given=f"{len(cells)} cells", rule=f"the header has {len(header)}")
            time = _timestamp(where, cells[at])
            start = start or time
            prompt = _tokens(f"{where}: {AZURE_COLUMNS[1]}", cells[given])
            answer = _tokens(f"{where}: {AZURE_COLUMNS[2]}", cells[asked])
            _append(rows, where, (time - start).total_seconds(), prompt, answer, ())
    return _requests(path, rows)


def read_mooncake_jsonl(path: Path) -> Requests:
    """A Mooncake trace: one object a line with timestamp (ms), input_length, output_length and hash_ids.

    hash_ids name blocks of 512 tokens of the prompt, the last one partly filled; they become `prefixes`.
    Raises WorkloadError.
    """
    rows: list[Row] = []
    with _open(path) as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                _append(rows, f"{path}: line {number}", *_mooncake_row(f"{path}: line {number}", line))
    return _requests(path, rows, MOONCAKE_BLOCK_TOKENS)


def _mooncake_row(where: str, line: str) -> Row:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise WorkloadError(where=where, given=line.strip()[:60], rule=f"is no JSON: {error}") from error
    if not isinstance(entry, dict):
        raise WorkloadError(where=where, given=line.strip()[:60], rule="must be an object")
    for key in ("timestamp", "input_length", "output_length"):
        if key not in entry:
            raise WorkloadError(where=where, given=line.strip()[:60], rule=f"has no {key!r}")
    time = entry["timestamp"]
    if isinstance(time, bool) or not isinstance(time, int | float) or not isfinite(time):
        raise WorkloadError(where=f"{where}: timestamp", given=repr(time), rule="must be a number of milliseconds")
    given = _tokens(f"{where}: input_length", entry["input_length"])
    asked = _tokens(f"{where}: output_length", entry["output_length"])
    hashes = entry.get("hash_ids", [])
    if not isinstance(hashes, list) or not all(isinstance(h, int) for h in hashes):
        raise WorkloadError(where=f"{where}: hash_ids", given=str(hashes)[:60], rule="must be a list of whole numbers")
    if hashes and len(hashes) != -(-given // MOONCAKE_BLOCK_TOKENS):
        raise WorkloadError(
            where=f"{where}: hash_ids", given=f"{len(hashes)} ids for {given} tokens",
            rule=f"one id for each {MOONCAKE_BLOCK_TOKENS} tokens begun",
        )  # fmt: skip
    return time / 1000.0, given, asked, tuple(hashes)


def _open(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise WorkloadError(where=str(path), given=str(error.strerror), rule="cannot be read") from error


def _timestamp(where: str, text: str) -> datetime:
    # Seven decimals of a second are written; Python reads six.
    whole, _, part = text.strip().partition(".")
    try:
        return datetime.fromisoformat(f"{whole}.{part[:6]:0<6}" if part else whole)
    except ValueError as error:
        raise WorkloadError(where=where, given=repr(text), rule="is no time YYYY-MM-DD HH:MM:SS.fffffff") from error


def _tokens(where: str, value: Any) -> int:
    try:
        tokens = int(value)
    except (TypeError, ValueError):
        tokens = -1
    if isinstance(value, bool | float) or tokens < 1:
        raise WorkloadError(where=where, given=repr(value), rule="must be a whole number of at least 1")
    return tokens


def _append(rows: list[Row], where: str, time_s: float, given: int, asked: int, hashes: tuple[int, ...]) -> None:
    earliest = rows[-1][0] if rows else 0.0
    if time_s < earliest:
        raise WorkloadError(
            where=where, given=f"{time_s:g} s after {earliest:g} s", rule="times must not go back",
            way_out="sort the trace by time",
        )  # fmt: skip
    rows.append((time_s, given, asked, hashes))


def _requests(path: Path, rows: list[Row], block: int = MOONCAKE_BLOCK_TOKENS) -> Requests:
    if not rows:
        raise WorkloadError(where=str(path), given="", rule="holds no request")
    times, given, asked, hashes = zip(*rows, strict=True)
    shared = tuple(hashes) if any(hashes) else ()
    return Requests(np.array(times), np.array(given, dtype=np.int64), np.array(asked, dtype=np.int64), shared, block)
