"""Values of a collective as the chunks of its schedule, and back: what each rank brings and what it gets."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.collectives.apply import run
from simulator.collectives.schedule import Schedule
from simulator.numeric.rank import Array
from simulator.numeric.rounding import Rounder
from simulator.program.ops import Collective

Chunks = dict[int, Any]


def bring(op: Collective, schedule: Schedule, place: int, value: Any, sizes: Sequence[int] | None) -> Chunks:
    """The chunks the rank at `place` of the group begins with; `sizes` cuts a reduce_scatter's tokens."""
    match op.kind:
        case "all_reduce":
            return dict(enumerate(np.array_split(np.ravel(value), schedule.chunks)))
        case "all_to_all":
            return {place * schedule.ranks + j: item for j, item in enumerate(value)}
        case "all_gather":
            shards = {place: _leading(op, value)}
        case "reduce_scatter":
            cut = np.array_split(value, schedule.ranks) if sizes is None else np.split(value, np.cumsum(sizes)[:-1])
            shards = dict(enumerate(cut))
    pieces = schedule.pieces
    return {
        shard * pieces + i: piece
        for shard, rows in shards.items()
        for i, piece in enumerate(np.array_split(rows, pieces))
    }


def take(op: Collective, schedule: Schedule, place: int, held: Chunks, value: Any) -> Any:
    """What the rank at `place` ends with, given what it holds after the last round and what it brought."""
    chunks = schedule.ends_with(place)
    match op.kind:
        case "all_reduce":
            return np.concatenate([held[c] for c in chunks]).reshape(np.shape(value))
        case "all_to_all":
            return [held[c] for c in chunks]
        case "reduce_scatter":
            return np.concatenate([held[c] for c in chunks])
        case "all_gather":
            joined = np.concatenate([held[c] for c in chunks])
            return joined.T if op.dim == "features" else joined


def sizes_of(op: Collective, schedule: Schedule, held: Chunks) -> tuple[int, ...] | None:
    """Tokens that each rank brought to an all_gather, so that a later reduce_scatter can cut as it did."""
    if op.kind != "all_gather" or op.dim != "tokens":
        return None
    pieces = schedule.pieces
    return tuple(sum(len(held[s * pieces + i]) for i in range(pieces)) for s in range(schedule.ranks))


def adder(round_: Rounder) -> Any:
    """Addition with rounding after each sum, in the order the algorithm adds."""

    def add(a: Array, b: Array) -> Array:
        return round_(a + b)

    return add


def exchange(
    op: Collective, schedule: Schedule, values: Sequence[Any], sizes: Sequence[int] | None, round_: Rounder
) -> tuple[list[Any], tuple[int, ...] | None]:
    """The whole collective at once, without time: what each rank gets, and the sizes gathered."""
    held = run(schedule, [bring(op, schedule, i, v, sizes) for i, v in enumerate(values)], adder(round_))
    outputs = [take(op, schedule, i, held[i], v) for i, v in enumerate(values)]
    return outputs, sizes_of(op, schedule, held[0])


def _leading(op: Collective, value: Array) -> Array:
    """The gathered dimension first."""
    if op.dim == "features":
        return value.T
    return value[None] if op.dim == "stack" else value
