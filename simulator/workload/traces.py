"""Recorded traffic: Azure, Mooncake and BurstGPT. Every error names the file and the line.

`longest`: tokens of prompt and answer that the model can hold (0: any); a request beyond is an error, or left out
(`drop`).
"""

import json
from datetime import datetime
from math import isfinite
from pathlib import Path

from simulator.errors import WorkloadError
from simulator.workload.reading import Rows, csv_rows, opened, seconds, whole_number
from simulator.workload.requests import Requests

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURST_COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens")
MOONCAKE_BLOCK_TOKENS = 512
"""Tokens of one hashed block (Mooncake, FAST'25, open-sourced traces, 2025-02)."""
Row = tuple[float, int, int, tuple[int, ...]]


def read_azure_csv(path: Path, *, longest: int = 0, drop: bool = False) -> Requests:
    """An Azure LLM inference trace: TIMESTAMP, ContextTokens, GeneratedTokens; time counts from the first row.

    Source of the format: github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md. Raises WorkloadError.
    """
    rows, start = Rows(path, longest, drop), None
    for where, (at, given, asked) in csv_rows(path, AZURE_COLUMNS):
        time = _timestamp(where, at)
        start = start or time
        prompt = whole_number(f"{where}: {AZURE_COLUMNS[1]}", given)
        rows.add(
            where, (time - start).total_seconds(), prompt, whole_number(f"{where}: {AZURE_COLUMNS[2]}", asked)
        )  # fmt: skip
    return rows.requests()


def read_burstgpt_csv(path: Path, *, model: str = "", longest: int = 0, drop: bool = False) -> Requests:
    """A BurstGPT trace, of one `model` ("ChatGPT", "GPT-4") or of all; time counts from the first row that is kept.

    Timestamps are seconds. Rows without request or response tokens are failures of the service and left out, as the
    authors' own copy without failures does (github.com/HPMLL/BurstGPT, README, 2024-06; arXiv:2401.17644).
    Raises WorkloadError, also where Total tokens is not the sum of the two.
    """
    rows, start = Rows(path, longest, drop), None
    for where, (at, name, given, asked, total) in csv_rows(path, BURST_COLUMNS):
        time_s = seconds(f"{where}: Timestamp", at)
        prompt = whole_number(f"{where}: Request tokens", given, 0)
        answer = whole_number(f"{where}: Response tokens", asked, 0)
        if prompt + answer != whole_number(f"{where}: Total tokens", total, 0):
            raise WorkloadError(where=where, given=f"{prompt} + {answer}", rule=f"Total tokens is {total}")
        if prompt and answer and model in ("", name):
            start = time_s if start is None else start
            rows.add(where, time_s - start, prompt, answer)
    return rows.requests()


def read_mooncake_jsonl(path: Path, *, longest: int = 0, drop: bool = False) -> Requests:
    """A Mooncake trace: one object a line with timestamp (ms), input_length, output_length and hash_ids.

    hash_ids name blocks of 512 tokens of the prompt, the last one partly filled; they become `prefixes`.
    Raises WorkloadError.
    """
    rows = Rows(path, longest, drop)
    with opened(path) as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                rows.add(f"{path}: line {number}", *_mooncake_row(f"{path}: line {number}", line))
    return rows.requests(MOONCAKE_BLOCK_TOKENS)


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
    given = whole_number(f"{where}: input_length", entry["input_length"])
    asked = whole_number(f"{where}: output_length", entry["output_length"])
    hashes = entry.get("hash_ids", [])
    if not isinstance(hashes, list) or not all(isinstance(h, int) for h in hashes):
        raise WorkloadError(where=f"{where}: hash_ids", given=str(hashes)[:60], rule="must be a list of whole numbers")
    if hashes and len(hashes) != -(-given // MOONCAKE_BLOCK_TOKENS):
        raise WorkloadError(
            where=f"{where}: hash_ids", given=f"{len(hashes)} ids for {given} tokens",
            rule=f"one id for each {MOONCAKE_BLOCK_TOKENS} tokens begun",
        )  # fmt: skip
    return time / 1000.0, given, asked, tuple(hashes)


def _timestamp(where: str, text: str) -> datetime:
    # Seven decimals of a second are written; Python reads six.
    whole, _, part = text.strip().partition(".")
    try:
        return datetime.fromisoformat(f"{whole}.{part[:6]:0<6}" if part else whole)
    except ValueError as error:
        raise WorkloadError(where=where, given=repr(text), rule="is no time YYYY-MM-DD HH:MM:SS.fffffff") from error
