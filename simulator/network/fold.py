"""Flows and links that cannot be told apart are simulated once.

The coarsest equitable partition of the incidence graph (colour refinement; Grohe et al., "Dimension reduction via
colour refinement", ESA 2014, arXiv:1307.5697): all flows of a class have the same size, start and cap and cross links
of the same classes; all links of a class have the same capacity and as many flows of each class. Max-min rates are
the same within a class, at all times, so the quotient is exact. A hierarchical all_reduce over 16,384 GPUs has a
few classes; an uneven all_to_all has none but single flows, and then folding gives up after one look.

Colours are 64-bit hashes: for a million flows the chance of one collision is about 3e-8.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.network.crossings import Crossings, crossings
from simulator.network.incidence import Floats, Ints, Table, distinct

Colours = NDArray[np.uint64]
WORTH = 0.5
"""Folding stops as soon as there are more classes than this part of the flows."""


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """The quotient: one flow and one link for each class."""

    class_of: Ints
    """Class of each flow, shape (flows,)."""
    one_of: Ints
    """A flow of each class, shape (classes,)."""
    capacity: Floats
    """Of a link of each class of links."""
    over: Crossings


def fold(capacity: Floats, table: Table, keys: tuple[Floats, ...]) -> Folded | None:
    """The quotient, or None where it would hardly be smaller. `keys` tell flows apart: bytes, start, cap."""
    flows = table.shape[1]
    flow = _mixed(np.zeros(flows, dtype=np.uint64), *keys)
    if len(distinct(flow)) > WORTH * flows:
        return None
    link = _mixed(np.zeros(len(capacity), dtype=np.uint64), capacity)
    refined = _refine(flow, link, table)
    return None if refined is None else _quotient(capacity, *refined, table)


def _refine(flow: Colours, link: Colours, table: Table) -> tuple[Ints, Ints] | None:
    """Class of each flow and of each link, once another look tells no more of either apart."""
    flows, links = table.shape[1], len(link)
    over = crossings(links, table)
    used = np.flatnonzero(np.diff(over.start))
    first = over.start[used]
    classes = (0, 0)
    while True:
        padded_link = np.append(_scrambled(link), np.uint64(0))
        total = np.zeros(flows, dtype=np.uint64)
        for row in table:
            total += padded_link[row]
        flow = _scrambled(flow * _ODD + total)
        seen = np.zeros(len(link), dtype=np.uint64)
        if len(used):
            seen[used] = np.add.reduceat(_scrambled(flow)[over.flow_of], first)
        link = _scrambled(link * _ODD + seen)
        flow_colours, flow_class = np.unique(flow, return_inverse=True)
        link_colours, link_class = np.unique(link, return_inverse=True)
        if len(flow_colours) > WORTH * flows:
            return None
        if (len(flow_colours), len(link_colours)) == classes:
            return flow_class.astype(np.int64), link_class.astype(np.int64)
        classes = (len(flow_colours), len(link_colours))


def _quotient(capacity: Floats, flow_class: Ints, link_class: Ints, table: Table) -> Folded:
    _, one_of, flow_size = np.unique(flow_class, return_index=True, return_counts=True)
    _, one_link, link_size = np.unique(link_class, return_index=True, return_counts=True)
    links = len(one_link)
    rows = np.sort(np.append(link_class, links)[table[:, one_of]], axis=0)
    weights = np.zeros(rows.shape)
    for place in range(len(rows)):
        same = rows == rows[place]
        first = ~same[:place].any(axis=0)
        weights[place] = np.where(first, same.sum(axis=0), 0)
    rows[weights == 0] = links
    weights *= flow_size / np.append(link_size, 1)[rows]
    over = crossings(links, rows.astype(np.int32), np.rint(weights))
    return Folded(flow_class, one_of, capacity[one_link], over)


_ODD = np.uint64(0x9E3779B97F4A7C15)


def _scrambled(colours: Colours) -> Colours:
    """Steele, Lea and Flood's SplitMix64 finaliser (OOPSLA 2014, doi:10.1145/2660193.2660195)."""
    z = colours + _ODD
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def _mixed(colours: Colours, *values: Floats) -> Colours:
    for value in values:
        colours = _scrambled(colours * _ODD + _scrambled(np.ascontiguousarray(value, dtype=np.float64).view(np.uint64)))
    return colours
