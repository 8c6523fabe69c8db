"""The measured provider: interpolation inside measured operator tables, by their ratio to the fitted model.

A table holds, for one group (op, engine, formats and widths on one GPU), points on log2 axes and the logarithm of
measured over modelled time there. A query inside the table multiplies the model by the ratio at its neighbours (inverse
squared distance in octaves); an exact hit gives the measured time. Outside, or where no neighbour lies within an
octave on every axis, there is no answer: the next provider is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.cost.kernel.sizes import Array

Floats = NDArray[np.float32]
AXES: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "prefill": ("batch_size", "seq_len", "num_heads", "num_kv_heads"),
    "decode": ("batch_size", "keys", "num_heads", "num_kv_heads"),
    "latent_prefill": ("batch_size", "seq_len", "num_heads"),
    "latent_decode": ("batch_size", "keys", "num_heads"),
}
"""Axes of each family's tables, in the order of a point."""
DEFAULTS = ("vllm", "trtllm", "sglang")
"""Whose tables stand where no engine is named, the first that has one."""
NEIGHBOURS = 8
REACH = 1.01
"""Octaves on each axis within which a neighbour counts: the tables step by a factor of two or less."""
_PROBES = 60
"""Rows of a table that are left out in turn to learn its error."""
_FEWEST = 5
"""Rows that must be answered without themselves for that error to mean something."""


@dataclass(frozen=True, slots=True)
class Table:
    """Points [rows, axes] (log2 of sizes) and log(measured / model) [rows]."""

    points: Floats
    log_ratio: Floats
    error: float | None = None
    """Median relative error of leaving a row out; None where too few rows have neighbours to tell."""

    def ratio(self, point: tuple[float, ...], *, leave_out_exact: bool = False) -> float | None:
        """Measured over model at `point` (sizes, not logarithms); None where the table does not reach."""
        if min(point) <= 0 or not self._surrounds(point):
            return None
        offset = np.abs(self.points - np.log2(np.asarray(point)).astype(np.float32))
        near = np.flatnonzero((offset <= REACH).all(axis=1))
        distance = np.square(offset[near]).sum(axis=1)
        exact = distance < 1e-8
        if exact.any() and not leave_out_exact:
            return float(np.exp(self.log_ratio[near[exact]].mean()))
        near, distance = near[~exact], distance[~exact]
        if not len(near):
            return None
        order = np.argsort(distance)[:NEIGHBOURS]
        weights = 1.0 / distance[order]
        return float(np.exp((self.log_ratio[near[order]] * weights).sum() / weights.sum()))

    def _surrounds(self, point: tuple[float, ...]) -> bool:
        at = np.log2(np.asarray(point))
        low, high = self.points.min(axis=0) - 1e-4, self.points.max(axis=0) + 1e-4
        return bool(((at >= low) & (at <= high)).all())

    def with_error(self) -> "Table":
        """The same, with its error from up to 60 rows, each left out in turn."""
        places = np.unique(np.linspace(0, len(self.points) - 1, min(_PROBES, len(self.points))).astype(int))
        found = []
        for place in places:
            guess = self.ratio(tuple(float(x) for x in np.exp2(self.points[place])), leave_out_exact=True)
            if guess is not None:
                found.append(abs(guess / float(np.exp(self.log_ratio[place])) - 1.0))
        return replace(self, error=float(np.median(found)) if len(found) >= _FEWEST else None)


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of one GPU with where they come from."""

    gpu: str
    source: str
    groups: Mapping[str, Table]
    suspects: int = 0
    """Rows faster than the datasheet allows: left out."""

    def engine_of(self, family: str, backend: str, detail: tuple[object, ...]) -> str | None:
        """Whose table answers for `backend`: its own, else one of no named engine; "" takes any, vLLM's first."""
        others: tuple[str, ...] = () if backend else DEFAULTS
        for engine in dict.fromkeys([backend, "", *others]):
            if group_name(family, engine, *detail) in self.groups:
                return engine
        return None


def group_name(family: str, backend: str, *detail: object) -> str:
    """Name of a group: `gemm/vllm/bf16`, `prefill/sglang/bf16/fp8/128/0`."""
    return "/".join((family, backend, *(str(d) for d in detail)))


def make_table(points: Array, measured_s: Array, model_s: Array) -> Table:
    """A table from rows; rows of one point are merged by their median."""
    keys, inverse = np.unique(points, axis=0, return_inverse=True)
    ratio = np.log(measured_s / model_s)
    order = np.argsort(inverse, kind="stable")
    _, starts = np.unique(inverse[order], return_index=True)
    merged = np.array([np.median(part) for part in np.split(ratio[order], starts[1:])])
    return Table(np.log2(keys).astype(np.float32), merged.astype(np.float32))


_ACTIVE: dict[str, Tables] = {}


def activate(tables: Tables) -> None:
    """Ask `tables` first for kernels on their GPU, until `deactivate`."""
    _ACTIVE[tables.gpu] = tables


def deactivate(gpu: str | None = None) -> None:
    """Forget the tables of one GPU, or all."""
    if gpu is None:
        _ACTIVE.clear()
    else:
        _ACTIVE.pop(gpu, None)


@dataclass(frozen=True, slots=True)
class Correction:
    """What a table says of a query: measured over the model of `engine`'s kernel."""

    engine: str
    ratio: float
    error: float | None


def correction(
    gpu: str, family: str, backend: str, detail: tuple[object, ...], point: tuple[float, ...]
) -> Correction | None:
    """The active tables' word on an op on `gpu`; None where they do not reach."""
    tables = _ACTIVE.get(gpu)
    engine = None if tables is None else tables.engine_of(family, backend, detail)
    if tables is None or engine is None:
        return None
    table = tables.groups[group_name(family, engine, *detail)]
    ratio = table.ratio(point)
    return None if ratio is None else Correction(engine, ratio, table.error)
