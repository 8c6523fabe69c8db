"""The numbers reading: a schedule moves real NumPy arrays, without time.

Arrays are cut along their first axis, unevenly where they must be (`numpy.array_split`).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.schedule import Kind, Round, Schedule
from simulator.errors import ScheduleError

Array = NDArray[Any]
Rounding = Callable[[Array], Array]
T = TypeVar("T")


def run(schedule: Schedule, holdings: Sequence[dict[int, T]], add: Callable[[T, T], T]) -> list[dict[int, T]]:
    """What each vertex holds, chunk by chunk, after the last round, having begun with `holdings` (one a rank)."""
    if len(holdings) != schedule.ranks:
        raise ScheduleError(
            where=f"{schedule.algorithm} {schedule.kind}",
            given=f"{len(holdings)} ranks' data",
            rule=f"the schedule is for {schedule.ranks} ranks",
        )
    held = [*(dict(own) for own in holdings), *({} for _ in range(schedule.switches))]
    for transfers in schedule.rounds:
        step(schedule, transfers, held, add)
    return held


def step(schedule: Schedule, transfers: Round, held: list[dict[int, T]], add: Callable[[T, T], T]) -> None:
    """One round in place: all reads first, then each place adds its terms in the order of their vertices."""
    incoming: dict[tuple[int, int], list[tuple[int, bool, T]]] = {}
    for source, destination, chunk, reduce in transfers:
        if chunk not in held[source]:
            raise _malformed(schedule, f"vertex {source} sends chunk {chunk} to {destination}", "it does not hold it")
        incoming.setdefault((destination, chunk), []).append((source, reduce, held[source][chunk]))
    for (destination, chunk), arrivals in incoming.items():
        if all(reduce for _, reduce, _ in arrivals):
            terms = [(source, value) for source, _, value in arrivals]
            if chunk in held[destination]:
                terms.append((destination, held[destination][chunk]))
            terms.sort(key=lambda term: term[0])
            total = terms[0][1]
            for _, value in terms[1:]:
                total = add(total, value)
            held[destination][chunk] = total
        elif len(arrivals) == 1:
            held[destination][chunk] = arrivals[0][2]
        else:
            raise _malformed(
                schedule, f"vertex {destination}, chunk {chunk}", "a copy meets another arrival in one round"
            )


def all_reduce(schedule: Schedule, arrays: Sequence[Array], round_: Rounding | None = None) -> list[Array]:
    """The sum of `arrays` (one a rank, same shape) on every rank, rounded by `round_` after each addition."""
    _expect(schedule, "all_reduce")
    flat = [np.array_split(np.ravel(array), schedule.chunks) for array in arrays]
    held = run(schedule, [dict(enumerate(pieces)) for pieces in flat], _adder(round_))
    return [_joined(schedule, held[r], r).reshape(np.shape(a)) for r, a in enumerate(arrays)]


def reduce_scatter(
    schedule: Schedule, arrays: Sequence[Array], round_: Rounding | None = None, sizes: Sequence[int] | None = None
) -> list[Array]:
    """Rank i gets shard i of the sum of `arrays`, cut along axis 0 into `sizes` (as `array_split` does if None)."""
    _expect(schedule, "reduce_scatter")
    cuts = [_shards(array, schedule.ranks, sizes) for array in arrays]
    holdings = [_chunked(schedule, dict(enumerate(shards))) for shards in cuts]
    held = run(schedule, holdings, _adder(round_))
    return [_joined(schedule, held[r], r) for r in range(schedule.ranks)]


def all_gather(schedule: Schedule, arrays: Sequence[Array]) -> list[Array]:
    """The arrays (one a rank, of any length along axis 0) joined along axis 0 in rank order, on every rank."""
    _expect(schedule, "all_gather")
    holdings = [_chunked(schedule, {rank: array}) for rank, array in enumerate(arrays)]
    held = run(schedule, holdings, _adder(None))
    return [_joined(schedule, held[r], r) for r in range(schedule.ranks)]


def all_to_all(schedule: Schedule, items: Sequence[Sequence[T]]) -> list[list[T]]:
    """items[i][j] goes from rank i to rank j: result[j][i]. Items are any objects."""
    _expect(schedule, "all_to_all")
    n = schedule.ranks
    if any(len(row) != n for row in items):
        raise _malformed(schedule, f"rows of {sorted({len(row) for row in items})} items", f"each rank has {n} items")
    holdings = [{i * n + j: item for j, item in enumerate(row)} for i, row in enumerate(items)]
    held = run(schedule, holdings, _refuse)
    return [[held[j][i * n + j] for i in range(n)] for j in range(n)]


def broadcast(schedule: Schedule, array: Array) -> list[Array]:
    """Rank 0's array on every rank."""
    _expect(schedule, "broadcast")
    return _from_first(schedule, array)


def send_recv(schedule: Schedule, array: Array) -> Array:
    """Rank 0's array, as rank 1 gets it (rank 0 itself in a group of one)."""
    _expect(schedule, "send_recv")
    return _from_first(schedule, array)[-1]


def _from_first(schedule: Schedule, array: Array) -> list[Array]:
    pieces = dict(enumerate(np.array_split(np.ravel(array), schedule.chunks)))
    held = run(schedule, [pieces, *({} for _ in range(schedule.ranks - 1))], _adder(None))
    ends = [r for r in range(schedule.ranks) if schedule.ends_with(r)]
    return [_joined(schedule, held[r], r).reshape(np.shape(array)) for r in ends]


def _shards(array: Array, ranks: int, sizes: Sequence[int] | None) -> list[Array]:
    if sizes is None:
        return np.array_split(array, ranks)
    if len(sizes) != ranks or sum(sizes) != len(array):
        raise ScheduleError(
            given=f"shard sizes {list(sizes)}", rule=f"must be {ranks} numbers that sum to {len(array)}"
        )
    return np.split(array, np.cumsum(sizes)[:-1])


def _chunked(schedule: Schedule, shards: dict[int, Array]) -> dict[int, Array]:
    pieces = schedule.pieces
    return {
        shard * pieces + p: piece
        for shard, array in shards.items()
        for p, piece in enumerate(np.array_split(array, pieces))
    }


def _joined(schedule: Schedule, held: dict[int, Array], rank: int) -> Array:
    chunks = schedule.ends_with(rank)
    missing = [chunk for chunk in chunks if chunk not in held]
    if missing:
        raise _malformed(schedule, f"rank {rank} ends without chunks {missing[:5]}", "every chunk must arrive")
    return np.concatenate([held[chunk] for chunk in chunks])


def _adder(round_: Rounding | None) -> Callable[[Array, Array], Array]:
    if round_ is None:
        return np.add
    return lambda a, b: round_(np.add(a, b))


def _refuse(_a: T, _b: T) -> T:
    raise ScheduleError(given="an all_to_all", rule="moves items and adds none")


def _expect(schedule: Schedule, kind: Kind) -> None:
    if schedule.kind != kind:
        raise ScheduleError(given=f"a schedule of {schedule.kind}", rule=f"{kind} needs a schedule of its own kind")


def _malformed(schedule: Schedule, given: str, rule: str) -> ScheduleError:
    return ScheduleError(where=f"{schedule.algorithm} {schedule.kind}", given=given, rule=rule)
