"""NCCL's choice as its own model makes it, against what its logs and curves show."""

import numpy as np
import pytest

from simulator.cost.collective import collective_times, selection
from simulator.cost.collective.tuner import ring_graph, tuned_times
from tests.collective_groups import group


@pytest.mark.parametrize(
    ("gpu", "channels", "speed"),
    # NCCL prints these for 8 GPUs behind NVSwitch (INFO GRAPH; 2.30.7).
    [("A100", 12, 20.0), ("H100", 12, 30.0), ("B200", 16, 45.0)],
)
def test_the_graph_that_nccl_finds(gpu: str, channels: int, speed: float) -> None:
    assert ring_graph(group(gpu, 8)) == (channels, speed)


@pytest.mark.parametrize(
    ("gpu", "ranks", "op", "switch_bytes"),
    # Where measured curves step up (nccl-tests 2.27-2.29, 2026-08): the first size past the switch.
    [
        ("A100", 2, "all_reduce", 2**20),
        ("A100", 2, "all_gather", 2**21),
        ("H100", 2, "all_reduce", 2**21),
        ("H100", 8, "all_reduce", 2**21),
        ("B200", 2, "all_reduce", 2**22),
        ("B200", 4, "all_gather", 2**23),
        ("B200", 8, "all_reduce", 2**22),
    ],
)
def test_where_it_leaves_ll(gpu: str, ranks: int, op: str, switch_bytes: int) -> None:
    links = group(gpu, ranks)
    assert selection(links, op, switch_bytes / 2) == ("ring", "ll")
    assert selection(links, op, switch_bytes) != ("ring", "ll")


def test_nvls_needs_a_third_gpu_a_switch_and_hopper() -> None:
    assert selection(group("H100", 8), "all_reduce", 2.0**30) == ("nvls", "simple")
    assert selection(group("H100", 2), "all_reduce", 2.0**30) == ("ring", "simple")
    assert selection(group("A100", 8), "all_reduce", 2.0**30) == ("ring", "simple")
    assert selection(group("H100", 8), "all_gather", 2.0**30) == ("ring", "simple")
    assert selection(group("H100", 16, 8), "all_reduce", 2.0**30) == ("nvls_tree", "simple")


def test_trees_for_small_messages_on_many_nodes() -> None:
    for nodes in (4, 32, 512):
        assert selection(group("A100", 8 * nodes, 8), "all_reduce", 1024.0) == ("tree", "ll")
    assert selection(group("A100", 64, 8), "all_gather", 1024.0)[0] == "ring"


def test_no_ll128_over_pcie() -> None:
    sizes = np.exp2(np.arange(3, 34.0))
    assert {protocol for _, protocol in tuned_times(group("L40S", 4), "all_reduce", sizes)} == {"ll", "simple"}


def test_latency_of_the_tuner_by_hand() -> None:
    """8 H100 in a ring, LL: 6.6 + 14 * 0.6 us, and 8 bytes over min(141, 180) * 8 / 14 GB/s."""
    time = tuned_times(group("H100", 8), "all_reduce", np.array([8.0]))["ring", "ll"]
    assert time[0] == pytest.approx(15.0e-6 + 8 / (141e9 * 8 / 14), rel=1e-12)


def test_switches_do_not_add_int8() -> None:
    # 1 GiB on 8 H100: int8 takes 1.27 times what half does, as a ring against NVLS; an all_gather adds nothing.
    links = group("H100", 8, 8)
    size = np.array([2.0**30])
    for op, low, high in (("all_reduce", 1.15, 1.4), ("all_gather", 1.0, 1.0)):
        half, int8 = (float(collective_times(links, op, size, dtype=dtype)[0]) for dtype in ("half", "int8"))
        assert low <= int8 / half <= high
