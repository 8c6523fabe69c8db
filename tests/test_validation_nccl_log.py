"""Logs of nccl-tests: read as printed, judged against the fabric."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from simulator.cost.collective import collective_times
from simulator.errors import DataError
from simulator.topology.group import GroupLinks
from simulator.validation.nccl_log import check_log, parse_log
from simulator.validation.table_collectives import bus_share
from tests.collective_groups import group

HEAD = """\
# nThread 1 nGpus 8 minBytes 1024 maxBytes 17179869184 step: 2(factor) warmup iters: 5 iters: 20 agg iters: 1
#
# Using devices
{devices}
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
"""
PROGRAM = {"all_reduce": "all_reduce", "all_gather": "all_gather", "all_to_all": "alltoall"}
Times = Callable[[float, float], float]


def printed(seconds: float) -> str:
    """A time as nccl-tests prints it: fewer decimals when it is long (src/common.cu)."""
    us = seconds * 1e6
    return f"{us:.0f}" if us >= 10000 else f"{us:.1f}" if us >= 100 else f"{us:.2f}"


def log_of(links: GroupLinks, op: str = "all_reduce", change: Times = lambda _, t: t, named: bool = True) -> str:
    """What nccl-tests would print on this group, were it as fast as predicted and then changed."""
    devices = "\n".join(
        f"#  Rank {r:2} Group  0 Pid {900 + r} on host{r // links.ranks_per_node} device {r % 8} [0x1b] NVIDIA H100"
        for r in range(links.ranks)
    )
    lines = [HEAD.format(devices=devices)]
    for size in np.exp2(np.arange(10, 35.0)):
        time = change(size, float(collective_times(links, op, np.array([size]))[0]))
        figures = f"{printed(time):>8} {size / time / 1e9:6.2f} {size / time * bus_share(op, links.ranks) / 1e9:6.2f}"
        redop = "sum" if op == "all_reduce" else "none"
        lines.append(f"{size:12.0f} {size / 4:12.0f}     float {redop:>7}      -1 {figures}      0 {figures}      0")
    text = "\n".join(lines) + "\n# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 211.3\n"
    return f"# Collective test starting: {PROGRAM[op]}_perf\n" + text if named else text


def test_a_log_reads_back_as_it_was_printed() -> None:
    links = group("H100", 16, 8)
    log = parse_log(log_of(links))
    assert (log.op, log.ranks, log.hosts, len(log.rows)) == ("all_reduce", 16, 2, 25)
    for row in log.rows:
        expected = float(collective_times(links, "all_reduce", np.array([row.size_bytes]))[0])
        assert row.time_s == pytest.approx(expected, rel=1e-3)
        assert row.size_bytes / row.time_s * 15 / 8 == pytest.approx(row.bus_bytes_per_s, rel=0.02, abs=1e7)


@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "all_to_all"])
def test_a_log_at_the_predicted_speed_is_normal(op: str) -> None:
    checked = check_log(log_of(group("H100", 8), op), group("H100", 8))
    assert len(checked) == 25
    assert {row.verdict for row in checked} == {"normal"}
    assert all(row.ratio == pytest.approx(1.0, rel=1e-3) for row in checked)
    assert checked[0].bound.startswith("latency")
    assert "NVLink" in checked[-1].bound


def test_the_op_is_told_from_the_figures_where_it_is_not_named() -> None:
    links = group("H100", 8)
    assert parse_log(log_of(links, "all_reduce", named=False)).op == "all_reduce"
    assert parse_log(log_of(links, "all_gather", named=False)).op == "all_gather"
    assert parse_log(log_of(links, "all_to_all", named=False), "all_to_all").op == "all_to_all"


def _measured_on(other: GroupLinks) -> Times:
    return lambda size, _: float(collective_times(other, "all_reduce", np.array([size]))[0])


def _pcie(links: GroupLinks) -> GroupLinks:
    rate = links.device.pcie_bytes_per_s
    return replace(links, scale_up="pcie", scale_up_bytes_per_s=rate, pair_bytes_per_s=rate, multicast=False)


@pytest.mark.parametrize(
    ("links", "ailing", "told"),
    [
        (group("H100", 8), replace(group("H100", 8), multicast=False), "NVLS off"),
        (group("H100", 8), _pcie(group("H100", 8)), "PCIe path"),
        (group("A100", 64, 8), replace(group("A100", 64, 8), nic_bytes_per_s=12.5e9), "half their rate"),
        (group("A100", 64, 8), replace(group("A100", 64, 8), nic_bytes_per_s=25e9 / 8), "one NIC for all"),
    ],
)
def test_each_ailment_gets_its_hint(links: GroupLinks, ailing: GroupLinks, told: str) -> None:
    checked = check_log(log_of(links, change=_measured_on(ailing)), links)
    largest = checked[-1]
    assert largest.verdict == "low"
    assert told in largest.hint
    assert largest.expected_bus_bytes_per_s > largest.measured_bus_bytes_per_s


def test_one_slow_size_at_a_switch_is_a_protocol_cliff() -> None:
    links = group("H100", 8)
    checked = check_log(log_of(links, change=lambda size, t: t * (1.6 if size == 2**21 else 1.0)), links)
    low = [row for row in checked if row.verdict == "low"]
    assert [row.size_bytes for row in low] == [2**21]
    assert "protocol cliff" in low[0].hint


def test_a_faster_log_than_links_allow_is_called_high() -> None:
    checked = check_log(log_of(group("H100", 8), change=lambda _, t: t / 2), group("H100", 8))
    assert {row.verdict for row in checked} == {"high"}


def test_nccl_s_own_sample_reads() -> None:
    """Two lines in the layout of older releases, without redop columns; time of more than 10 ms without decimals."""
    text = """\
#                                             out-of-place                       in-place
#       size    count    type   redop     time   algbw   busbw  error     time   algbw   busbw  error
     1048576    262144   float     sum    38.55   27.20   47.60  2e-07    38.42   27.29   47.76  2e-07
  8589934592  2147483648   float     sum    31307  274.38  480.17  2e-07    31310  274.35  480.12  2e-07
"""
    log = parse_log(text, "all_reduce")
    assert [row.time_s for row in log.rows] == pytest.approx([38.55e-6, 31307e-6])
    assert [row.bus_bytes_per_s for row in log.rows] == pytest.approx([47.6e9, 480.17e9])


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "no line of figures"), ("hello\nworld 1 2", "no line of figures"), (log_of(group("H100", 4)), "4 ranks")],
)
def test_what_cannot_be_checked(text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        check_log(text, group("H100", 8))


def test_an_op_that_cannot_be_told_is_asked_for() -> None:
    text = "1048576 262144 float none -1 38.55 27.20 27.20 0 38.42 27.29 27.29 0"
    with pytest.raises(DataError, match="--op"):
        parse_log(text)
