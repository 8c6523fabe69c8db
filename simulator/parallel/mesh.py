"""Ranks as points of a mesh with named axes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from simulator.errors import LayoutError


@dataclass(frozen=True, slots=True)
class Mesh:
    """Named axes, slowest first: rank = row-major index of its coordinates."""

    axes: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Number of ranks."""
        return prod(count for _, count in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """Axis names, slowest first."""
        return tuple(name for name, _ in self.axes)

    def length(self, name: str) -> int:
        """Ranks along one axis."""
        for axis, count in self.axes:
            if axis == name:
                return count
        raise LayoutError(given=repr(name), rule=f"the mesh has the axes {', '.join(self.names)}")

    def coordinates(self, rank: int) -> dict[str, int]:
        """Coordinates of a rank, by axis name."""
        if not 0 <= rank < self.size:
            raise LayoutError(given=f"rank {rank}", rule=f"ranks run from 0 to {self.size - 1}")
        found = {}
        for name, count in reversed(self.axes):
            rank, found[name] = divmod(rank, count)
        return {name: found[name] for name in self.names}

    def rank(self, coordinates: Mapping[str, int]) -> int:
        """The rank at these coordinates (every axis must be named)."""
        index = 0
        for name, count in self.axes:
            if not 0 <= coordinates[name] < count:
                raise LayoutError(given=f"{name}={coordinates[name]}", rule=f"{name} runs from 0 to {count - 1}")
            index = index * count + coordinates[name]
        return index

    def groups(self, names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        """Ranks that differ only in the named axes, one tuple a group, ordered by mesh order in it."""
        return _groups(self, names)


@lru_cache(maxsize=1024)
def _groups(mesh: Mesh, names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    for name in names:
        mesh.length(name)
    grid = np.arange(mesh.size).reshape([count for _, count in mesh.axes])
    inside = [i for i, name in enumerate(mesh.names) if name in names]
    outside = [i for i in range(len(mesh.axes)) if i not in inside]
    width = prod(mesh.axes[i][1] for i in inside)
    rows = grid.transpose(outside + inside).reshape(-1, width)
    return tuple(tuple(int(rank) for rank in row) for row in rows)
