"""Which flow crosses which links: compressed sparse rows outside, a padded table inside."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.errors import ScheduleError, TopologyError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Table = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """The links of each flow: flow f crosses `links[indptr[f]:indptr[f + 1]]`, in order."""

    indptr: Ints
    """Shape (flows + 1,)."""
    links: Ints
    """Directed link numbers, shape (crossings,)."""

    @property
    def flows(self) -> int:
        """Number of flows."""
        return len(self.indptr) - 1

    def lengths(self) -> Ints:
        """Links on each path, shape (flows,)."""
        return np.diff(self.indptr)

    def path(self, flow: int) -> Ints:
        """Links of one flow."""
        return self.links[self.indptr[flow] : self.indptr[flow + 1]]

    def take(self, flows: Ints) -> "Paths":
        """The paths of some flows, in the order given (a flow may be named twice)."""
        lengths = self.lengths()[flows]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
        return Paths(indptr, self.links[np.repeat(self.indptr[:-1][flows], lengths) + within])

    def sums(self, of_link: Floats) -> Floats:
        """Sum over each flow's links (latencies, for one), shape (flows,)."""
        total = np.concatenate([[0.0], np.cumsum(of_link[self.links])])
        return np.asarray(total[self.indptr[1:]] - total[self.indptr[:-1]], dtype=np.float64)


def paths_of(rows: list[list[int]] | list[tuple[int, ...]]) -> Paths:
    """From one list of links for each flow."""
    lengths = [len(row) for row in rows]
    links = np.array([link for row in rows for link in row], dtype=np.int64)
    return Paths(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), links)


def joined(parts: list[Paths]) -> Paths:
    """All flows of several sets, in order."""
    offsets = np.cumsum([0, *(len(part.links) for part in parts)])
    starts = [part.indptr[:-1] + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
    indptr = np.concatenate([*starts, offsets[-1:]]).astype(np.int64)
    return Paths(indptr, np.concatenate([part.links for part in parts]).astype(np.int64))


def padded(paths: Paths, links: int) -> Table:
    """Link numbers by place on the path, shape (longest path, flows); past the end stands the number `links`.

    Rows of a fixed width cost less in NumPy than ragged ones: paths have two to eight links.
    """
    lengths = paths.lengths()
    width = int(lengths.max(initial=0))
    table = np.full((width, paths.flows), links, dtype=np.int32)
    place = np.arange(len(paths.links)) - np.repeat(paths.indptr[:-1], lengths)
    table[place, np.repeat(np.arange(paths.flows), lengths)] = paths.links
    return table


_Whole = TypeVar("_Whole", np.int64, np.uint64)


def distinct(values: NDArray[_Whole]) -> NDArray[_Whole]:
    """Sorted, each once: `numpy.unique` by sorting, which for millions of integers beats its hash table (NumPy 2.3)."""
    ordered = np.sort(values)
    first: Bools = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    return ordered[first]


def check_links(capacity_bytes_per_s: Floats, paths: Paths) -> None:
    """Refuse capacities that are negative or not numbers, and paths over links that are not there."""
    wrong = ~(capacity_bytes_per_s >= 0)
    if wrong.any():
        link = int(np.argmax(wrong))
        raise TopologyError(
            where=f"link {link}", given=f"{capacity_bytes_per_s[link]} B/s", rule="a capacity must not be negative"
        )
    if len(paths.links) and not (paths.links.min() >= 0 and paths.links.max() < len(capacity_bytes_per_s)):
        raise TopologyError(
            given=f"links {paths.links.min()}..{paths.links.max()}",
            rule=f"links are numbered 0..{len(capacity_bytes_per_s) - 1}",
        )


def check_bytes(bytes_: Floats) -> None:
    """Refuse sizes that are negative or not finite."""
    wrong = ~((bytes_ >= 0) & np.isfinite(bytes_))
    if wrong.any():
        flow = int(np.argmax(wrong))
        raise ScheduleError(where=f"flow {flow}", given=f"{bytes_[flow]} bytes", rule="must be finite and not negative")
