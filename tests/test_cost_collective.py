"""Prices of collectives: laws that hold for every group, and what may not be asked."""

from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost.collective import collective_price, collective_times, curve, selection
from simulator.cost.collective.parameters import parse, shipped
from simulator.cost.collective.request import ALGORITHMS
from simulator.errors import CalibrationError, ScheduleError
from simulator.topology.group import GroupLinks
from simulator.validation.table_collectives import bus_share
from tests.collective_groups import group

GPUS = ("V100", "A100", "H100", "H800", "B200", "GB200", "L40S", "RTX-PRO-6000", "MI300X")
RINGS = ("all_reduce", "all_gather", "reduce_scatter")
SIZES = np.exp2(np.arange(0, 36, 0.37))


@st.composite
def groups(draw: st.DrawFn) -> GroupLinks:
    per_node = draw(st.integers(2, 8))
    nodes = draw(st.sampled_from((1, 1, 2, 3, 16, 100)))
    network = draw(st.sampled_from(("infiniband", "roce", "efa", "slingshot")))
    return group(draw(st.sampled_from(GPUS)), per_node * nodes, per_node, network=network)


asks = st.tuples(
    groups(),
    st.sampled_from((*RINGS, "all_to_all", "broadcast")),
    st.sampled_from(("nccl", "vllm", "sglang", "tensorrt-llm")),
)


@given(asks)
def test_times_are_positive_finite_and_rise_with_the_message(ask: tuple[GroupLinks, str, str]) -> None:
    links, op, library = ask
    times = collective_times(links, op, SIZES, library=library)
    assert np.isfinite(times).all()
    assert (times > 0).all()
    assert (np.diff(times) >= 0).all()


@given(asks, st.floats(1.01, 8.0), st.sampled_from(("scale_up", "nic")))
def test_faster_links_are_never_slower(ask: tuple[GroupLinks, str, str], factor: float, which: str) -> None:
    links, op, library = ask
    if which == "nic":
        better = replace(links, nic_bytes_per_s=links.nic_bytes_per_s * factor)
    else:
        up, pair = links.scale_up_bytes_per_s * factor, links.pair_bytes_per_s * factor
        better = replace(links, scale_up_bytes_per_s=up, pair_bytes_per_s=pair)
    slow, fast = (collective_times(each, op, SIZES, library=library) for each in (links, better))
    assert (fast <= slow * (1 + 1e-12)).all()


def _bus_limit(links: GroupLinks, op: str, algorithm: str) -> float:
    """The most that links allow: a ring's busbw is the link's rate, in-switch reduction halves what is sent."""
    share = bus_share(op, links.ranks)
    inside = min(links.scale_up_bytes_per_s, links.pair_bytes_per_s * (links.ranks_per_node - 1))
    # Over several nodes one step in ranks_per_node of each ring goes by a NIC.
    steps_inside = (links.ranks_per_node - 1) / links.ranks_per_node if links.nodes > 1 else 1.0
    sent = 1.0 if algorithm.startswith("nvls") and op == "all_reduce" else share * steps_inside
    if op == "all_to_all":
        sent = (links.ranks_per_node - 1) / links.ranks
    if op == "broadcast":
        sent = 1.0
    if algorithm == "tree":
        sent = 1.0
    return share * inside / sent


@given(groups(), st.sampled_from((*RINGS, "all_to_all", "broadcast")))
def test_no_bandwidth_beyond_the_links(links: GroupLinks, op: str) -> None:
    times = collective_times(links, op, SIZES)
    # The curve is a table of eight points per octave, read between them: a thousandth of slack.
    for size, time in zip(SIZES, times, strict=True):
        algorithm, _ = selection(links, op, float(size))
        limit = max(_bus_limit(links, op, name) for name in {algorithm, *(("nvls",) if links.multicast else ("ring",))})
        assert size / time * bus_share(op, links.ranks) <= limit * 1.001


@given(st.sampled_from(GPUS), st.integers(2, 40), st.floats(1e6, 1e10))
def test_no_bandwidth_beyond_the_nics(gpu: str, nodes: int, size: float) -> None:
    """Whatever the algorithm, half the message leaves a node and half comes in: bytes over a cut of the network."""
    links = group(gpu, 8 * nodes, 8)
    time = float(collective_times(links, "all_reduce", np.array([size]))[0])
    assert time >= size * (1.0 if nodes == 2 else (nodes - 1) / nodes) / (8 * links.nic_bytes_per_s) * 0.999


@given(asks, st.lists(st.floats(0.0, 2.0**40), min_size=1, max_size=5))
def test_one_at_a_time_is_the_same_as_all_at_once(ask: tuple[GroupLinks, str, str], sizes: list[float]) -> None:
    links, op, library = ask
    together = collective_times(links, op, np.array(sizes), library=library)
    alone = [collective_price(links, op, size, library=library).time_s for size in sizes]
    assert together.tolist() == alone


@given(groups(), st.sampled_from(sorted(ALGORITHMS["all_reduce"])))
def test_a_forced_algorithm_is_priced_or_refused(links: GroupLinks, algorithm: str) -> None:
    try:
        time = collective_price(links, "all_reduce", 5e6, algorithm=algorithm).time_s
    except ScheduleError:
        possible = {
            "nvls": links.nodes == 1 and links.multicast, "nvls_tree": links.nodes > 1 and links.multicast,
            "hierarchical": links.nodes > 1 and links.ranks % links.ranks_per_node == 0,
        }  # fmt: skip
        assert not possible.get(algorithm, links.nodes == 1)
    else:
        assert isfinite(time)
        assert time > 0
        assert selection(links, "all_reduce", 5e6, algorithm=algorithm)[0] == algorithm


def test_one_process_for_all_gpus_starts_them_one_after_the_other() -> None:
    """34.5 us below 64 KiB, 87 us for all_to_all (nccl-tests -g 8, A100-40GB); large ones take no longer."""
    links = group("A100", 8)
    sizes = np.array([0.0, 32.0, 8192.0, 2.0**30])
    for op, floor in (("all_reduce", 34.5e-6), ("broadcast", 34.5e-6), ("all_to_all", 87e-6)):
        apart, together = (collective_times(links, op, sizes, mode=mode) for mode in ("nccl-tests", "one-process"))  # type: ignore[arg-type]
        assert together[1:3] == pytest.approx([floor, floor], rel=0.02)
        assert together[[0, 3]].tolist() == apart[[0, 3]].tolist()
        assert (apart[1:3] < together[1:3]).all()


def test_which_forced_algorithm_is_best_follows_hops_and_bytes() -> None:
    """Fewest hops win small messages, fewest bytes on the NIC win large ones (1,024 H100 on 128 nodes)."""
    links = group("H100", 1024, 8)

    def priced(op: str, algorithm: str, size: float) -> float:
        return collective_price(links, op, size, algorithm=algorithm).time_s

    small, large = 8e3, 4e9
    assert priced("all_gather", "pat", small) < priced("all_gather", "hierarchical", small)
    assert priced("all_gather", "hierarchical", small) < priced("all_gather", "ring", small)
    assert priced("all_gather", "ring", large) < priced("all_gather", "pat", large)
    assert priced("all_reduce", "halving_doubling", small) < priced("all_reduce", "ring", small)
    assert priced("all_reduce", "hierarchical", large) < priced("all_reduce", "halving_doubling", large)


def test_a_group_of_one_and_an_empty_message_take_no_time() -> None:
    assert collective_price(group("H100", 1), "all_reduce", 1e9).time_s == 0.0
    assert collective_price(group("H100", 8), "all_reduce", 0.0).time_s == 0.0
    assert collective_price(group("H100", 8), "all_reduce", 0.0, mode="eager").time_s == 0.0


@pytest.mark.parametrize(
    ("links", "op", "size", "how", "told"),
    [
        (group("H100", 8), "all_reduce", -1.0, {}, "2**63"),
        (group("H100", 8), "all_reduce", 2.0**63 * 1.01, {}, "2**63"),
        (group("H100", 8), "all_reduce", float("nan"), {}, "2**63"),
        (group("H100", 8), "all_reverse", 1.0, {}, "all_reduce"),
        (group("H100", 8), "all_reduce", 1.0, {"algorithm": "rung"}, "two_shot"),
        (group("H100", 8), "all_reduce", 1.0, {"library": "mpi"}, "nccl"),
        (group("H100", 8), "all_reduce", 1.0, {"mode": "lazy"}, "eager"),
        (group("L40S", 8), "all_reduce", 1.0, {"algorithm": "nvls"}, "use ring"),
        (group("A100", 8), "all_reduce", 1.0, {"algorithm": "nvls"}, "generation 3"),
        (group("H100", 16, 8), "all_reduce", 1.0, {"algorithm": "nvls"}, "nvls_tree"),
        (group("H100", 16, 8), "all_reduce", 1.0, {"algorithm": "one_shot"}, "one node"),
        (group("H100", 3), "send_recv", 1.0, {}, "two ranks"),
        (replace(group("H100", 16, 8), nic_bytes_per_s=0.0), "all_reduce", 1.0, {}, "nic_bytes_per_s"),
        (replace(group("H100", 8), scale_up_bytes_per_s=-4.0), "all_gather", 1.0, {}, "scale_up_bytes_per_s"),
        (replace(group("H100", 16, 8), network="none"), "all_reduce", 1.0, {}, "network"),
    ],
)
def test_what_cannot_be_asked(links: GroupLinks, op: str, size: float, how: dict[str, str], told: str) -> None:
    with pytest.raises(ScheduleError, match=told.replace("*", r"\*")):
        collective_price(links, op, size, **how)  # type: ignore[arg-type]


def test_eager_never_beats_the_host_and_grace_is_slower() -> None:
    x86, arm = (
        collective_price(group(gpu, 4), "all_reduce", 1e3, library="vllm", mode="eager") for gpu in ("B200", "GB200")
    )
    assert 1.5e-5 < x86.time_s < 3e-5 < arm.time_s
    graph = collective_price(group("B200", 4), "all_reduce", 1e9, library="vllm")
    assert collective_price(group("B200", 4), "all_reduce", 1e9, library="vllm", mode="eager").time_s > graph.time_s


def test_engines_beat_nccl_on_small_messages_and_hand_over_large_ones() -> None:
    links = group("H100", 8)
    for library in ("vllm", "sglang", "tensorrt-llm"):
        small = collective_price(links, "all_reduce", 2.0**14, library=library).time_s
        assert small < 0.6 * collective_price(links, "all_reduce", 2.0**14).time_s
        large = collective_price(links, "all_reduce", 2.0**30, library=library).time_s
        assert large == collective_price(links, "all_reduce", 2.0**30).time_s
    assert selection(links, "all_reduce", 2.0**13, library="vllm")[0] == "one_shot"


@given(st.lists(st.floats(0.0, 1e3), min_size=1, max_size=40))
def test_the_nearest_rising_curve(values: list[float]) -> None:
    """Against the definition: max over starts of min over ends of means (Robertson, Wright, Dykstra 1988, 1.4)."""
    found = curve.rising(np.array(values))
    count = len(values)
    means = {(a, b): np.mean(values[a : b + 1]) for a in range(count) for b in range(a, count)}
    for i, value in enumerate(found):
        best = max(min(means[a, b] for b in range(i, count)) for a in range(i + 1))
        assert value == pytest.approx(best, abs=1e-9)


def test_a_broken_table_of_parameters_is_named() -> None:
    for text, told in (
        ("{", "JSONDecodeError"),
        ("{}", "schema"),
        ('{"schema": 0}', "schema 0"),
        ('{"schema": 1}', "platforms"),
    ):
        with pytest.raises(CalibrationError, match=told):
            parse(text, "here.json")


def test_shares_of_links_are_shares() -> None:
    for platform in shipped().platforms.values():
        for stage in platform.stages.values():
            assert all(0 < share <= 1 for share in stage.efficiency.values())
    for network in shipped().networks.values():
        assert all(0 < stage.efficiency <= 1 for stage in network.values())
