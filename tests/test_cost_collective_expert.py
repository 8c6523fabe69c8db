"""Expert exchange and transfers: bytes from routing, and laws of their prices."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost.collective import expert_all_to_all_price, transfer_price
from simulator.cost.collective.expert import KERNELS, Traffic, busiest, distinct, notify_seconds, parameters_of, traffic
from simulator.errors import ScheduleError
from simulator.topology.group import GroupLinks
from tests.collective_groups import group

SHAPE = {"hidden": 7168.0, "topk": 8.0, "experts": 256.0}


def _drawn(bins: int, experts: int, topk: int) -> float:
    rng = np.random.default_rng(11)
    draws = rng.random((4000, experts)).argsort(axis=1)[:, :topk] // (experts // bins)
    return float(np.mean([len(set(row)) for row in draws.tolist()]))


@pytest.mark.parametrize(("bins", "experts", "topk"), [(8, 256, 8), (2, 256, 8), (16, 64, 6), (8, 16, 1), (64, 256, 8)])
def test_distinct_destinations_as_drawn(bins: int, experts: int, topk: int) -> None:
    assert distinct(bins, experts, topk) == pytest.approx(_drawn(bins, experts, topk), rel=0.02)


phases = st.sampled_from(("dispatch", "combine"))
kernels = st.sampled_from(("deepep_low_latency", "deepep_normal", "trtllm_two_sided", "uccl_normal"))


@given(
    kernels,
    phases,
    st.sampled_from(("H100", "H800", "B200", "MI300X")),
    st.sampled_from((1, 2, 8)),
    st.floats(1.0, 1e5),
    st.floats(1.01, 10.0),
)
def test_more_tokens_take_longer_and_faster_links_no_longer(
    kernel: str, phase: str, gpu: str, nodes: int, tokens: float, factor: float
) -> None:
    links = group(gpu, 8 * nodes, 8)

    def time(of: GroupLinks, count: float) -> float:
        return expert_all_to_all_price(of, kernel=kernel, phase=phase, tokens_per_rank=count, **SHAPE).time_s  # type: ignore[arg-type]

    assert 0.0 < time(links, tokens) <= time(links, tokens * factor)
    faster = replace(
        links,
        nic_bytes_per_s=links.nic_bytes_per_s * factor,
        scale_up_bytes_per_s=links.scale_up_bytes_per_s * factor,
        pair_bytes_per_s=links.pair_bytes_per_s * factor,
    )
    assert time(faster, tokens) <= time(links, tokens)


@given(st.sampled_from((1, 2, 4)), st.integers(0, 2**32 - 1))
def test_even_bytes_in_a_matrix_price_as_even_routing_and_skew_costs(nodes: int, seed: int) -> None:
    links = group("H100", 8 * nodes, 8)
    how = {"kernel": "deepep_low_latency", "phase": "dispatch", "tokens_per_rank": 512.0, **SHAPE}
    even = expert_all_to_all_price(links, **how)  # type: ignore[arg-type]
    sent = traffic(links, "deepep_low_latency", "dispatch", tokens=512.0, dtype="fp8", **SHAPE)
    n = links.ranks
    flat = np.full((n, n), sent.counted_bytes / n)
    as_matrix = expert_all_to_all_price(links, **how, pair_bytes=tuple(map(tuple, flat.tolist())))  # type: ignore[arg-type]
    assert as_matrix.time_s == pytest.approx(even.time_s, rel=1e-9)
    skewed = flat * np.random.default_rng(seed).dirichlet(np.full(n, 0.5), size=n) * n
    one_hot = expert_all_to_all_price(links, **how, pair_bytes=tuple(map(tuple, skewed.tolist())))  # type: ignore[arg-type]
    assert one_hot.time_s >= even.time_s * 0.999


def test_the_busiest_rank_by_hand() -> None:
    links = group("H100", 4, 2)
    matrix = ((9.0, 1.0, 2.0, 3.0), (5.0, 9.0, 7.0, 0.0), (1.0, 1.0, 9.0, 4.0), (0.0, 8.0, 6.0, 9.0))
    even = traffic(links, "deepep_normal", "dispatch", tokens=1.0, dtype="fp8", **SHAPE)
    found = busiest(links, matrix, even)
    assert found.scale_up_bytes == 6.0  # rank 3 to its node mate
    assert found.network_bytes == 9.0  # into rank 1 (1 + 8), and into rank 2 (2 + 7)


def test_fp8_dispatch_is_about_half_of_bf16_and_node_limits_save_network_bytes() -> None:
    links = group("H100", 64, 8)
    how = {"tokens": 4096.0, **SHAPE}
    fp8 = traffic(links, "deepep_normal", "dispatch", dtype="fp8", **how)
    bf16 = traffic(links, "deepep_normal", "dispatch", dtype="bf16", **how)
    assert fp8.network_bytes / bf16.network_bytes == pytest.approx((1 + 4 / 128) / 2)
    limited = traffic(links, "deepep_normal", "dispatch", dtype="fp8", node_limit=4.0, **how)
    assert limited.network_bytes < fp8.network_bytes
    # A token crosses to each of 4 nodes once, 7 of 8 of which are not its own.
    assert limited.network_bytes == pytest.approx(4096 * 7168 * (1 + 4 / 128) * 4 * 7 / 8)


def test_few_experts_leave_few_senders() -> None:
    """Low-latency dispatch over 8 experts runs on 8 SMs, so 1,024 tokens take longer than with 128 experts."""
    links = group("H100", 8)
    few, many = (
        expert_all_to_all_price(links, tokens_per_rank=1024.0, hidden=6144.0, topk=2.0, experts=e).time_s
        for e in (8.0, 128.0)
    )
    assert few > 3 * many


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("phase", ["dispatch", "combine"])
def test_normal_kernels_are_bound_by_their_sms_until_a_link_is_full(nodes: int, phase: str) -> None:
    """4,096 tokens took 2,068 us on 4 SMs and 492 us on 20 (H100, one node)."""
    links = group("H100", 8 * nodes, 8)
    few, some, many = (
        expert_all_to_all_price(
            links, kernel="deepep_normal", phase=phase, tokens_per_rank=4096.0, sms=sms, **SHAPE  # type: ignore[arg-type]
        ).time_s
        for sms in (4.0, 8.0, 1000.0)
    )  # fmt: skip
    assert few / some == pytest.approx(2.0, rel=0.1)
    assert many < few / 4
    sent = traffic(links, "deepep_normal", phase, tokens=4096.0, dtype="fp8", **SHAPE)
    assert many > sent.scale_up_bytes / links.scale_up_bytes_per_s


def test_balanced_routing_reaches_as_many_ranks_as_it_can() -> None:
    links = group("GB200", 32, 32)
    how = {"tokens": 512.0, "dtype": "nvfp4", **SHAPE}
    even = traffic(links, "trtllm_one_sided", "dispatch", **how)  # type: ignore[arg-type]
    balanced = traffic(links, "trtllm_one_sided", "dispatch", balanced=True, **how)  # type: ignore[arg-type]
    assert balanced.copies == 512.0 * 8
    assert balanced.scale_up_bytes == pytest.approx(512 * 8 * 7168 * 0.5625 * 31 / 32)
    assert even.copies == pytest.approx(512 * distinct(32, 256, 8))


@given(phases, st.floats(1.0, 1e5), st.floats(1.0, 8.0))
def test_notify_waits_for_stragglers_between_nodes_only(phase: str, tokens: float, factor: float) -> None:
    def notify(nodes: int, count: float) -> float:
        links = group("H100", 8 * nodes, 8)
        fitted, _ = parameters_of("deepep_normal", phase, links)
        sent = traffic(links, "deepep_normal", phase, tokens=count, dtype="fp8", **SHAPE)
        price = expert_all_to_all_price(links, kernel="deepep_normal", phase=phase, tokens_per_rank=count, **SHAPE)  # type: ignore[arg-type]
        return notify_seconds(links, fitted, sent, price.time_s)

    assert notify(1, tokens) == 0.0
    assert 0.0 < notify(2, tokens) <= notify(2, tokens * factor)
    assert notify(2, tokens) < notify(8, tokens)
    links = group("H100", 16, 8)
    assert (
        notify_seconds(links, parameters_of("trtllm_one_sided", "dispatch", links)[0], even_traffic(links), 1e-4) == 0.0
    )


def even_traffic(links: GroupLinks) -> Traffic:
    """What normal kernels send for 100 tokens."""
    return traffic(links, "deepep_normal", "dispatch", tokens=100.0, dtype="fp8", **SHAPE)


def test_every_copy_crosses_pcie_once_where_there_is_no_nvlink() -> None:
    """53 and 48 GB/s on one and two nodes of H20 (DeepEP's PCIe kernels, 2026-07): one rate of the PCIe port."""
    for nodes, printed in ((1, 53.0e9), (2, 48.0e9)):
        links = replace(group("H20", 8 * nodes, 8), scale_up="pcie", scale_up_bytes_per_s=63e9, pair_bytes_per_s=63e9)
        sent = traffic(links, "deepep_pcie", "dispatch", tokens=4096.0, dtype="fp8", **SHAPE)
        price = expert_all_to_all_price(links, kernel="deepep_pcie", tokens_per_rank=4096.0, **SHAPE)
        assert sent.counted_bytes / price.time_s == pytest.approx(printed, rel=0.05)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kernel": "deepest"}, "deepep_normal"),
        ({"phase": "scatter"}, "combine"),
        ({"dtype": "fp7"}, "nvfp4"),
        ({"tokens_per_rank": -1.0}, "tokens_per_rank"),
        ({"topk": 300.0}, "experts"),
        ({"hidden": float("nan")}, "hidden"),
        ({"pair_bytes": ((1.0,),)}, "16 by 16"),
        ({"kernel": "trtllm_one_sided", "phase": "prepare"}, "no such phase"),
    ],
)
def test_what_cannot_be_exchanged(change: dict[str, object], told: str) -> None:
    how = {"tokens_per_rank": 8.0, **SHAPE} | change
    with pytest.raises(ScheduleError, match=told):
        expert_all_to_all_price(group("H100", 16, 8), **how)  # type: ignore[arg-type]


def test_no_tokens_no_time_and_every_kernel_has_both_phases() -> None:
    assert expert_all_to_all_price(group("H100", 8), tokens_per_rank=0.0, **SHAPE).time_s == 0.0
    for kernel in KERNELS:
        for phase in ("dispatch", "combine"):
            assert parameters_of(kernel, phase, group("H100", 8))[0]["base_s"] > 0


@given(st.floats(1.0, 1e12), st.floats(1e9, 1e12), st.floats(1.01, 10.0), st.integers(0, 100))
def test_transfers_rise_with_bytes_and_fall_with_bandwidth(
    size: float, line: float, factor: float, layers: int
) -> None:
    base = transfer_price(size, line, layers=layers, engine="mooncake-vllm").time_s
    assert base > size / line
    assert base <= transfer_price(size * factor, line, layers=layers, engine="mooncake-vllm").time_s
    assert base >= transfer_price(size, line * factor, layers=layers, engine="mooncake-vllm").time_s


def test_small_blocks_on_efa_are_slow() -> None:
    """64 KiB blocks reach 97 GB/s and 1 MiB blocks 353 on a p5en node of 400 GB/s (Mooncake, 2026-08)."""
    rates = [
        2.0**36 / transfer_price(2.0**36, 400e9, network="efa", block_bytes=block).time_s / 1e9
        for block in (2.0**16, 2.0**20)
    ]
    assert rates == pytest.approx([97, 353], rel=0.08)


@pytest.mark.parametrize(
    ("size", "line", "engine", "told"),
    [
        (-1.0, 1e9, "nixl", "bytes"),
        (2.0**64, 1e9, "nixl", "bytes"),
        (1.0, 0.0, "nixl", "line"),
        (1.0, 1e9, "pigeon", "mooncake"),
    ],
)
def test_what_cannot_be_moved(size: float, line: float, engine: str, told: str) -> None:
    with pytest.raises(ScheduleError, match=told):
        transfer_price(size, line, engine=engine)  # type: ignore[arg-type]
