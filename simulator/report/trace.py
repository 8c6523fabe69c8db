"""The run as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open.

Format: "Trace Event Format", Google, 2016 (JSON object form): complete events (`ph: X`), times in microseconds.
A process for each pool with a thread for each rank's stream, and one process for links, a thread each.
"""

import gzip
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from simulator.metrics.result import RunResult

MOST_PLAIN_EVENTS = 200_000
"""Longer traces are written as trace.json.gz, which Perfetto opens as well."""
_BATCH = 50_000
STREAMS = ("compute", "comm")


def write_trace(result: RunResult, folder: Path) -> Path:
    """Write every op of every rank and every message on a link; returns the file."""
    events = len(result.ops) + len(result.transfers) + len(result.handover)
    if events <= MOST_PLAIN_EVENTS:
        path = folder / "trace.json"
        with path.open("w", encoding="utf-8") as stream:
            _write(result, stream)
        return path
    path = folder / "trace.json.gz"
    # Level 1: four times as fast as the usual 9, for a file a third larger. No time stamp: same run, same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed:
        _write(result, _Text(packed))
    return path


class _Text:
    """A text stream over a binary one, without the buffer of TextIOWrapper, which the big batches do not need."""

    def __init__(self, inner: gzip.GzipFile) -> None:
        self._inner = inner

    def write(self, text: str) -> int:
        return self._inner.write(text.encode())


def _write(result: RunResult, stream: "IO[str] | _Text") -> None:
    stream.write('{"displayTimeUnit":"ns","otherData":{"name":' + json.dumps(result.name) + '},"traceEvents":[\n')
    first = True
    for lines in _batches(result):
        stream.write(("" if first else ",\n") + ",\n".join(lines))
        first = False
    stream.write("\n]}\n")


def _batches(result: RunResult) -> Iterator[list[str]]:
    """Events as JSON texts, by the batch."""
    process = count(1)
    for pool, part in result.ops.groupby("pool", observed=True):
        yield from _pool(str(pool), part, next(process))
    if len(result.transfers):
        yield from _links(result, next(process))
    if len(result.handover):
        yield from _handover(result, next(process))


def _name(process: int, name: str, thread: int | None = None) -> str:
    what = "process_name" if thread is None else "thread_name"
    place = "" if thread is None else f'"tid":{thread},'
    return f'{{"ph":"M","pid":{process},{place}"name":"{what}","args":{{"name":{json.dumps(name)}}}}}'


def _pool(pool: str, ops: pd.DataFrame, process: int) -> Iterator[list[str]]:
    names = [_name(process, f"pool {pool}")]
    for rank, gpu in ops[["rank", "gpu"]].drop_duplicates().sort_values("rank").itertuples(index=False):
        for index, stream in enumerate(STREAMS):
            names.append(_name(process, f"rank {rank} {stream} (GPU {gpu})", 2 * int(rank) + index))
    yield names
    thread = 2 * ops["rank"].to_numpy() + (ops["stream"].astype(str) == "comm").to_numpy()
    head = _texts(ops["op"], ',"cat":', ops["kind"])
    for at in range(0, len(ops), _BATCH):
        part = slice(at, at + _BATCH)
        rows = ops.iloc[part]
        start, took = _microseconds(rows["start_s"], rows["end_s"])
        yield [
            f'{{"ph":"X","pid":{process},"tid":{t},"ts":{s:.9g},"dur":{d:.6g},"name":{name},'
            f'"args":{{"step":{step},"layer":{layer},"bytes":{size:.0f},"bound":"{bound}","from":"{origin}"}}}}'
            for t, s, d, name, step, layer, size, bound, origin in zip(
                thread[part].tolist(), start, took, head[part], rows["step"].tolist(), rows["layer"].tolist(),
                rows["bytes"].tolist(), rows["bound"].tolist(), rows["provenance"].tolist(), strict=True,
            )
        ]  # fmt: skip


def _texts(first: "pd.Series[str]", between: str, second: "pd.Series[str]") -> list[str]:
    """JSON of two columns of few different words, joined; each pair is encoded once."""
    made: dict[tuple[str, str], str] = {}
    found = []
    for pair in zip(first.tolist(), second.tolist(), strict=True):
        text = made.get(pair)
        if text is None:
            text = made[pair] = json.dumps(pair[0]) + between + json.dumps(pair[1])
        found.append(text)
    return found


def _microseconds(start_s: "pd.Series[float]", end_s: "pd.Series[float]") -> tuple[list[float], list[float]]:
    start, end = np.asarray(start_s, dtype=float) * 1e6, np.asarray(end_s, dtype=float) * 1e6
    return start.tolist(), (end - start).tolist()


def _links(result: RunResult, process: int) -> Iterator[list[str]]:
    known = result.links.set_index("link") if len(result.links) else pd.DataFrame()
    names = [_name(process, "links")]
    for link in sorted(result.transfers["link"].unique().tolist()):
        text = f"link {link}"
        if link in known.index:
            row = known.loc[link]
            text = f"{row['source']} to {row['destination']} ({row['link_class']})"
        names.append(_name(process, text, int(link)))
    yield names
    for at in range(0, len(result.transfers), _BATCH):
        rows = result.transfers.iloc[at : at + _BATCH]
        start, took = _microseconds(rows["start_s"], rows["end_s"])
        columns = (rows["link"].tolist(), start, took, rows["label"].tolist(), rows["bytes"].tolist())
        yield [
            f'{{"ph":"X","pid":{process},"tid":{link},"ts":{s:.9g},"dur":{d:.6g},"name":{json.dumps(str(label))},'
            f'"cat":"transfer","args":{{"bytes":{size:.0f}}}}}'
            for link, s, d, label, size in zip(*columns, strict=True)
        ]


def _handover(result: RunResult, process: int) -> Iterator[list[str]]:
    frame = result.handover
    names = [_name(process, "KV hand-over")]
    names += [
        _name(process, f"to rank {rank}", int(rank)) for rank in sorted(frame["destination_rank"].unique().tolist())
    ]
    yield names
    start, took = _microseconds(frame["start_s"], frame["end_s"])
    columns = (frame["source_rank"].tolist(), frame["destination_rank"].tolist(), start, took, frame["bytes"].tolist())
    yield [
        f'{{"ph":"X","pid":{process},"tid":{there},"ts":{s:.9g},"dur":{d:.6g},"name":"from rank {source}",'
        f'"cat":"handover","args":{{"bytes":{size:.0f}}}}}'
        for source, there, s, d, size in zip(*columns, strict=True)
    ]
