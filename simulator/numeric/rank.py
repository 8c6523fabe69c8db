"""What one rank holds: its shards of the weights, its part of the KV cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import NotBuiltError
from simulator.model.architecture import Architecture
from simulator.model.parameters import layer_parameters, outer_parameters
from simulator.numeric.rounding import Rounder
from simulator.parallel.layout import Layout
from simulator.program.build import stage_layers
from simulator.program.sharding import coordinate, local_index
from simulator.program.work import Work

Array = NDArray[Any]


@dataclass(slots=True)
class SequenceCache:
    """One layer's cache of one sequence on one rank: named rows and the position of each row."""

    positions: NDArray[np.int64]
    rows: dict[str, Array]

    def append(self, positions: NDArray[np.int64], rows: dict[str, Array]) -> None:
        """New rows at the end; positions need not be in order (context parallelism)."""
        self.positions = np.concatenate([self.positions, positions])
        self.rows = {name: np.concatenate([self.rows[name], new]) for name, new in rows.items()}


@dataclass(slots=True)
class RankState:
    """The memory of one rank in the numbers reading. `weights` is keyed by (layer, name), -1 outside layers."""

    rank: int
    architecture: Architecture
    layout: Layout
    weights: dict[tuple[int, str], Array]
    round_: Rounder
    caches: dict[tuple[int, int], SequenceCache] = field(default_factory=dict)
    """(layer, sequence id) -> cache."""

    def index(self, axes: tuple[str, ...]) -> int:
        """Place of this rank in its group over `axes`."""
        return coordinate(self.layout, self.rank, axes)


@dataclass(frozen=True, slots=True)
class OpContext:
    """What a kernel may look at besides its inputs."""

    state: RankState
    layer: int
    work: Work
    ids: NDArray[np.int64] | None
    """New token ids of this rank's part of the micro-batch."""

    def weight(self, name: str) -> Array:
        """This rank's shard of a weight of the current layer, or of one outside the layers."""
        found = self.state.weights.get((self.layer, name))
        return self.state.weights[(-1, name)] if found is None else found


def shard_weights(
    architecture: Architecture, layout: Layout, weights: Mapping[str, Array], rank: int, round_: Rounder
) -> RankState:
    """The state of one rank before any step: slices of the whole model's weights, rounded."""
    if architecture.numbers_refused:
        raise NotBuiltError(
            where="numbers", given=architecture.name, rule=architecture.numbers_refused, way_out="set numbers: off"
        )
    mine: dict[tuple[int, str], Array] = {}
    for parameter in outer_parameters(architecture):
        mine[-1, parameter.name] = round_(_cut(weights[parameter.name], local_index(parameter, layout, rank)))
    stage = coordinate(layout, rank, ("pp",))
    for i in stage_layers(len(architecture.layers), layout.pp)[stage]:
        for parameter in layer_parameters(architecture, architecture.layers[i]):
            whole = weights[f"layers.{i}.{parameter.name}"]
            mine[i, parameter.name] = round_(_cut(whole, local_index(parameter, layout, rank)))
    return RankState(rank, architecture, layout, mine, round_)


def _cut(whole: Array, index: tuple[NDArray[np.int64] | slice, ...]) -> Array:
    """The given indices along each axis, one axis after the other."""
    for axis, part in enumerate(index):
        if not isinstance(part, slice):
            whole = np.take(whole, part, axis=axis)
    return whole
