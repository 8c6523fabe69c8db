"""One contract for all algorithms: whatever the schedule, the numbers are NumPy's own."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.collectives import apply
from simulator.collectives.build import BUILDERS, algorithms, build
from simulator.collectives.certificate import check
from simulator.collectives.schedule import Kind, Nodes, Schedule, Transfer, per_rank
from simulator.collectives.volume import Shape, pair_shares, shape
from simulator.errors import ScheduleError

EQUAL_NODES = ("hierarchical", "two_level")


@st.composite
def node_partitions(draw: st.DrawFn, algorithm: str) -> Nodes:
    """Legal groups for this algorithm: sizes that differ, primes, places in any order over the nodes."""
    if algorithm in EQUAL_NODES:
        sizes = [draw(st.integers(1, 4))] * draw(st.integers(2, 4))
    elif algorithm == "nvls":
        sizes = [draw(st.integers(1, 11))]
    elif algorithm == "nvls_tree":
        sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    else:
        sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    places = draw(st.permutations(range(sum(sizes))))
    ends = np.cumsum(sizes)
    return tuple(tuple(places[end - size : end]) for end, size in zip(ends, sizes, strict=True))


@st.composite
def schedules(draw: st.DrawFn, kinds: tuple[Kind, ...]) -> Schedule:
    kind, algorithm = draw(st.sampled_from([pair for pair in BUILDERS if pair[0] in kinds]))
    nodes = draw(node_partitions(algorithm))
    channels, pipeline = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    ranks = sum(len(node) for node in nodes)
    return build(kind, algorithm, ranks, nodes=nodes, channels=channels, pipeline=pipeline)


def whole_numbers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Small odd integers as floats: sums are exact in any order, and no entry is zero or equal to most others."""
    return np.random.default_rng(seed).integers(-500, 500, size=shape) * 2.0 + 1.0


@given(schedule=schedules(("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast")))
def test_every_schedule_delivers_each_term_once(schedule: Schedule) -> None:
    check(schedule)


@given(schedule=schedules(("all_reduce",)), length=st.integers(1, 60), width=st.integers(1, 3))
def test_all_reduce_is_the_sum_on_every_rank(schedule: Schedule, length: int, width: int) -> None:
    arrays = [whole_numbers((length, width), seed) for seed in range(schedule.ranks)]
    for found in apply.all_reduce(schedule, arrays):
        np.testing.assert_array_equal(found, np.sum(arrays, axis=0))


@given(schedule=schedules(("reduce_scatter",)), data=st.data())
def test_reduce_scatter_gives_rank_i_the_sum_of_shard_i(schedule: Schedule, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 7), min_size=schedule.ranks, max_size=schedule.ranks))
    arrays = [whole_numbers((sum(sizes), 2), seed) for seed in range(schedule.ranks)]
    due = np.split(np.sum(arrays, axis=0), np.cumsum(sizes)[:-1])
    for found, part in zip(apply.reduce_scatter(schedule, arrays, sizes=sizes), due, strict=True):
        np.testing.assert_array_equal(found, part)


@given(schedule=schedules(("all_gather",)), data=st.data())
def test_all_gather_joins_shards_of_any_sizes_in_rank_order(schedule: Schedule, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 7), min_size=schedule.ranks, max_size=schedule.ranks))
    arrays = [whole_numbers((size, 2), seed) for seed, size in enumerate(sizes)]
    for found in apply.all_gather(schedule, arrays):
        np.testing.assert_array_equal(found, np.concatenate(arrays))


@given(schedule=schedules(("all_to_all",)))
def test_all_to_all_transposes_and_inverts_itself(schedule: Schedule) -> None:
    n = schedule.ranks
    items = [[f"{i}->{j}" * (1 + (i + 2 * j) % 3) for j in range(n)] for i in range(n)]
    arrived = apply.all_to_all(schedule, items)
    assert arrived == [[items[i][j] for i in range(n)] for j in range(n)]
    assert apply.all_to_all(schedule, arrived) == items


@given(schedule=schedules(("broadcast",)), length=st.integers(1, 40))
def test_broadcast_copies_rank_0(schedule: Schedule, length: int) -> None:
    array = whole_numbers((length, 2), 3)
    for found in apply.broadcast(schedule, array):
        np.testing.assert_array_equal(found, array)


def test_send_recv_carries_the_array() -> None:
    array = whole_numbers((5, 3), 1)
    np.testing.assert_array_equal(apply.send_recv(build("send_recv", "direct", 2, channels=2), array), array)


@given(schedule=schedules(("reduce_scatter",)), data=st.data())
def test_permuted_ranks_give_a_permuted_result(schedule: Schedule, data: st.DataObject) -> None:
    n = schedule.ranks
    order = data.draw(st.permutations(range(n)))
    arrays = [whole_numbers((3 * n,), seed) for seed in range(n)]
    plain = apply.reduce_scatter(schedule, arrays)
    permuted = apply.reduce_scatter(schedule, [arrays[place] for place in order])
    for one, other in zip(plain, permuted, strict=True):
        np.testing.assert_array_equal(one, other)
    blocks = np.split(np.arange(3 * n), n)
    moved = np.concatenate([blocks[place] for place in order])
    for place, found in zip(order, apply.reduce_scatter(schedule, [a[moved] for a in arrays]), strict=True):
        np.testing.assert_array_equal(found, plain[place])


def to_bf16(array: np.ndarray) -> np.ndarray:
    """Round half to even to 8 bits of mantissa."""
    bits = np.asarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


@given(schedule=schedules(("all_reduce",)), seed=st.integers(0, 99))
def test_rounding_is_applied_to_each_addition(schedule: Schedule, seed: int) -> None:
    generator = np.random.default_rng(seed)
    arrays = [to_bf16(generator.standard_normal(40).astype(np.float32)) for _ in range(schedule.ranks)]
    found = apply.all_reduce(schedule, arrays, round_=to_bf16)
    scale = np.sum(np.abs(arrays), axis=0)
    for one in found:
        np.testing.assert_array_equal(one, to_bf16(one))
        # Higham, Accuracy and Stability, 4.2: n - 1 additions, each off by at most 2**-9 of a partial sum.
        assert np.all(np.abs(one - np.sum(arrays, axis=0)) <= (schedule.ranks + 1) * 2.0**-8 * scale)


def test_one_shot_gives_all_ranks_the_same_bits() -> None:
    arrays = [np.random.default_rng(seed).standard_normal(500).astype(np.float32) for seed in range(7)]
    found = apply.all_reduce(build("all_reduce", "one_shot", 7), arrays, round_=to_bf16)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def off_by_one(schedule: Schedule) -> Schedule:
    """The planted bug: in the first round of a ring every chunk index is one too high."""
    first = tuple(Transfer(t[0], t[1], (t[2] + 1) % schedule.chunks, t[3]) for t in schedule.rounds[0])
    return replace(schedule, rounds=(first, *schedule.rounds[1:]))


@given(n=st.integers(3, 13))
def test_an_off_by_one_chunk_leaves_rounds_and_bytes_and_breaks_the_numbers(n: int) -> None:
    right = build("all_reduce", "ring", n)
    wrong = off_by_one(right)
    nodes = (tuple(range(n)),)

    def time_facts(of: Shape) -> tuple[int, float, float]:
        return of.rounds, of.port_share, of.nic_share

    assert time_facts(shape(wrong, nodes)) == time_facts(shape(right, nodes))
    np.testing.assert_array_equal(pair_shares(wrong), pair_shares(right))
    arrays = [whole_numbers((4 * n,), seed) for seed in range(n)]
    assert any(not np.array_equal(found, np.sum(arrays, axis=0)) for found in apply.all_reduce(wrong, arrays))
    with pytest.raises(ScheduleError, match="each once"):
        check(wrong)


@given(schedule=schedules(("all_reduce", "all_gather", "all_to_all")))
@settings(max_examples=30)
def test_per_rank_lists_each_transfer_once_as_sent_and_once_as_received(schedule: Schedule) -> None:
    table = per_rank(schedule)
    assert len(table) == schedule.vertices
    for index, transfers in enumerate(schedule.rounds):
        assert sorted(t for steps in table for t in steps[index].sends) == sorted(transfers)
        assert sorted(t for steps in table for t in steps[index].receives) == sorted(transfers)
        for vertex, steps in enumerate(table):
            assert {t.source for t in steps[index].sends} <= {vertex}
            assert {t.destination for t in steps[index].receives} <= {vertex}


@pytest.mark.parametrize(("kind", "algorithm"), sorted(BUILDERS))
def test_a_group_of_one_is_trivial(kind: Kind, algorithm: str) -> None:
    schedule = build(kind, algorithm, 1)
    assert schedule.rounds == ()
    check(schedule)


@pytest.mark.parametrize(
    ("kind", "algorithm", "ranks", "nodes", "said"),
    [
        ("all_reduce", "rings", 4, None, "no such algorithm; use ring, tree"),
        ("all_sum", "ring", 4, None, "a collective is one of"),
        ("all_reduce", "ring", 0, None, "at least 1"),
        ("all_reduce", "ring", 4, ((0, 1), (1, 3)), "once"),
        ("all_reduce", "ring", 4, ((0, 1, 2, 3), ()), "no node may be empty"),
        ("all_reduce", "hierarchical", 4, None, "two nodes or more"),
        ("all_reduce", "hierarchical", 3, ((0, 1), (2,)), "same number of ranks on each node"),
        ("all_to_all", "two_level", 4, None, "two nodes or more"),
        ("all_reduce", "nvls", 4, ((0, 1), (2, 3)), "behind one switch"),
        ("all_reduce", "nvls_tree", 4, None, "two nodes or more"),
        ("send_recv", "direct", 3, None, "between two ranks"),
        ("all_reduce", "ring", 16384, None, "too many to list"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    kind: Kind, algorithm: str, ranks: int, nodes: Nodes | None, said: str
) -> None:
    with pytest.raises(ScheduleError, match=said):
        build(kind, algorithm, ranks, nodes=nodes)


def test_a_schedule_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ScheduleError, match="schedule of its own kind"):
        apply.all_reduce(build("all_gather", "ring", 3), [np.ones(3)] * 3)
    with pytest.raises(ScheduleError, match="the schedule is for 3 ranks"):
        apply.all_reduce(build("all_reduce", "ring", 3), [np.ones(3)] * 2)


def test_every_kind_has_an_algorithm() -> None:
    assert all(algorithms(kind) for kind in ("all_reduce", "all_to_all", "send_recv", "broadcast"))
