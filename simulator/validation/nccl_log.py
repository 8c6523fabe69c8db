"""The output of nccl-tests: read it, and say of each size whether its bus bandwidth is normal for this fabric."""

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from simulator.cost.collective import collective_price, collective_times, selection
from simulator.cost.collective.parameters import link_class
from simulator.errors import DataError, ShardsimError
from simulator.topology.group import GroupLinks
from simulator.validation.nccl_causes import CAUSES
from simulator.validation.table_collectives import bus_share

Verdict = Literal["normal", "low", "high"]

# Names of the programs, and our names of what they run.
_PROGRAMS = {
    "all_reduce": "all_reduce", "all_gather": "all_gather", "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all", "broadcast": "broadcast", "sendrecv": "send_recv",
}  # fmt: skip
_PROGRAM = re.compile(r"\b(" + "|".join(_PROGRAMS) + r")_perf\b")
_RANK = re.compile(r"^#\s+Rank\s+(\d+)\b.*?\bon\s+(\S+)")
_NUMBERS = re.compile(r"^\s*\d+\s+\d+\s+\S+")
_TOLERANCE = 0.15
"""Below 1 - this share of the expected bandwidth a size is called low: about twice the model's error inside a node."""
_TOLERANCE_NODES = 0.30
"""The same for groups over several nodes, where the model is about 13 % off (docs/accuracy.md)."""
_CLOSE = 0.12
"""A cause explains a measurement when its own prediction lies this near."""


@dataclass(frozen=True, slots=True)
class LogRow:
    """One size of a log, out of place: bytes, seconds and bytes/s."""

    size_bytes: float
    dtype: str
    time_s: float
    bus_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Log:
    """A log of nccl-tests."""

    op: str
    ranks: int | None
    """None where the log lists no devices."""
    hosts: int | None
    rows: tuple[LogRow, ...]


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """One size with its verdict."""

    size_bytes: float
    time_s: float
    measured_bus_bytes_per_s: float
    expected_bus_bytes_per_s: float
    ratio: float
    verdict: Verdict
    algorithm: str
    protocol: str
    bound: str
    hint: str


def _row(line: str, number: int) -> LogRow | None:
    """One line of figures: size count type [redop] [root] time algbw busbw #wrong time algbw busbw #wrong."""
    words = line.split()
    times = [
        index for index, word in enumerate(words) if index > 2 and re.fullmatch(r"\d+\.\d*|\d+\.?\d*[eE][-+]?\d+", word)
    ]
    if not times or len(words) < times[0] + 3:
        return None
    at = times[0]
    # Times of 100 ms and more are printed without decimals, and are then no decimal word: the bandwidths follow.
    if at >= 4 and len(words) > at + 1 and re.fullmatch(r"\d+", words[at - 1]) and _prints_whole(words, at):
        at -= 1
    try:
        return LogRow(float(words[0]), words[2], float(words[at]) * 1e-6, float(words[at + 2]) * 1e9)
    except ValueError as error:
        raise DataError(where=f"log: line {number}", given=line.strip(), rule="not a line of nccl-tests") from error


def _prints_whole(words: list[str], at: int) -> bool:
    """Whether the figure before the first decimal one is a time: then size / time gives the next figure, algbw."""
    time_us, algbw = float(words[at - 1]), float(words[at])
    return time_us > 0 and abs(float(words[0]) / time_us / 1e3 - algbw) <= 0.02 * algbw + 0.01


def parse_log(text: str, op: str | None = None) -> Log:
    """The rows of a log; `op` where the log does not name its program. DataError when there is nothing to read."""
    rows: list[LogRow] = []
    ranks: set[int] = set()
    hosts: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        rank = _RANK.match(line)
        if rank:
            ranks.add(int(rank[1]))
            hosts.add(rank[2])
        elif _NUMBERS.match(line):
            row = _row(line, number)
            if row is not None:
                rows.append(row)
    if not rows:
        raise DataError(
            where="log", given=f"{len(text.splitlines())} lines", rule="holds no line of figures of nccl-tests",
            way_out="give the whole output of e.g. all_reduce_perf -b 8 -e 16G -f 2",
        )  # fmt: skip
    program = _PROGRAM.search(text)
    named = op or (_PROGRAMS[program[1]] if program else _op_by_ratio(text, rows, len(ranks)))
    return Log(named, len(ranks) or None, len(hosts) or None, tuple(rows))


def _op_by_ratio(text: str, rows: list[LogRow], ranks: int) -> str:
    """The op whose ratio of bus to algorithm bandwidth the log shows; all_gather and all_to_all look alike."""
    largest = max(rows, key=lambda row: row.size_bytes)
    ratio = largest.bus_bytes_per_s * largest.time_s / largest.size_bytes
    candidates = ["all_reduce", "reduce_scatter" if " sum " in text else "all_gather", "broadcast"]
    if ranks > 1:
        near = [op for op in candidates if abs(bus_share(op, ranks) / ratio - 1.0) < 0.03]
        if near:
            return near[0]
    if ratio > 1.01:
        return "all_reduce"
    raise DataError(
        where="log", given=f"bus over algorithm bandwidth {ratio:.3f}", rule="the op cannot be told from the log",
        way_out="name it: --op all_gather (or all_to_all, reduce_scatter, broadcast)",
    )  # fmt: skip


def _bus(links: GroupLinks, op: str, size_bytes: float, algorithm: str | None = None) -> float:
    time = float(collective_times(links, op, np.array([size_bytes]), algorithm=algorithm)[0])
    return size_bytes / time * bus_share(op, links.ranks)


def _bound(links: GroupLinks, op: str, size_bytes: float, algorithm: str) -> str:
    """What limits the price at this size, by name of the link."""
    if collective_price(links, op, size_bytes).bound == "latency":
        return "latency of launch and hops"
    if links.nodes > 1:
        faster = replace(links, nic_bytes_per_s=links.nic_bytes_per_s * 2.0)
        if _bus(faster, op, size_bytes) > 1.1 * _bus(links, op, size_bytes):
            return "NICs"
    names = {"nvlink": "NVLink", "xgmi": "xGMI", "pcie": "PCIe", "network": "NICs"}
    return "NVLink, reduced in the switch" if algorithm.startswith("nvls") else names[link_class(links)]


def _hint(links: GroupLinks, log: Log, index: int, expected: float, previous_low: bool) -> str:
    """What a low size points to."""
    row = log.rows[index]
    here = selection(links, log.op, row.size_bytes)
    around = {selection(links, log.op, row.size_bytes * factor) for factor in (0.25, 0.5, 2.0, 4.0)}
    if around - {here} and not previous_low:
        names = " and ".join(sorted({f"{a} {p}" for a, p in around | {here}}))
        return f"protocol cliff: NCCL switches here between {names}; try NCCL_PROTO or NCCL_ALGO to see"
    if collective_price(links, log.op, row.size_bytes).bound == "latency":
        return (
            "latency, not bandwidth: an outlier if its neighbours are normal, else host cores, clocks or NIC settings"
        )
    best, said = _CLOSE, ""
    for text, applies, change in CAUSES:
        if not applies(links):
            continue
        try:
            suspected = _bus(change(links), log.op, row.size_bytes)
        except ShardsimError:
            continue
        miss = abs(row.bus_bytes_per_s / suspected - 1.0)
        if miss < best and suspected < expected * 0.97:
            best, said = miss, text
    return (
        said or "no single cause fits; look for other traffic, throttling (nvidia-smi -q -d PERFORMANCE) or slow ranks"
    )


def check_log(text: str, links: GroupLinks, op: str | None = None) -> tuple[CheckedRow, ...]:
    """A verdict for every size of the log against what this group's links should give.

    Small messages are judged by time, which is the same ratio. Raises DataError when the log has other ranks than
    the group.
    """
    log = parse_log(text, op)
    if log.ranks is not None and log.ranks != links.ranks:
        raise DataError(
            where="log", given=f"{log.ranks} ranks", rule=f"the topology's group has {links.ranks}",
            way_out="name the number of GPUs and nodes that the log ran on",
        )  # fmt: skip
    tolerance = _TOLERANCE if links.nodes == 1 else _TOLERANCE_NODES
    checked: list[CheckedRow] = []
    for index, row in enumerate(log.rows):
        if row.size_bytes <= 0 or row.time_s <= 0:
            continue
        expected_s = float(collective_times(links, log.op, np.array([row.size_bytes]))[0])
        ratio = expected_s / row.time_s
        verdict: Verdict = "low" if ratio < 1.0 - tolerance else "high" if ratio > 1.0 + 2.0 * tolerance else "normal"
        algorithm, protocol = selection(links, log.op, row.size_bytes)
        share = bus_share(log.op, links.ranks)
        expected = row.size_bytes / expected_s * share
        previous_low = bool(checked) and checked[-1].verdict == "low"
        checked.append(
            CheckedRow(
                row.size_bytes, row.time_s, row.size_bytes / row.time_s * share, expected, ratio, verdict, algorithm,
                protocol, _bound(links, log.op, row.size_bytes, algorithm),
                _hint(links, log, index, expected, previous_low) if verdict == "low" else "",
            )
        )  # fmt: skip
    return tuple(checked)
