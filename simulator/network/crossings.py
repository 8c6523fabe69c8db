"""The incidence of links and flows both ways, and cut down to the flows that are still under way."""

from dataclasses import dataclass, replace

import numpy as np

from simulator.network.incidence import Bools, Floats, Ints, Table


@dataclass(frozen=True, slots=True, eq=False)
class Crossings:
    """The incidence both ways: links by flow, flows by link.

    `table[place, flow]` is a link, or `links` for padding; `weights` likewise is how many flows like this one cross
    that link, where flows stand for many (None: one each). `flow_of[start[l]:start[l + 1]]` are the flows of link l.
    """

    links: int
    table: Table
    weights: Floats | None
    flow_of: Ints
    start: Ints

    @property
    def flows(self) -> int:
        """Number of flows."""
        return int(self.table.shape[1])

    def keep(self, alive: Bools) -> "Crossings":
        """Without the flows that are not `alive`; the others are renumbered in order."""
        number = np.cumsum(alive) - 1
        stays = alive[self.flow_of]
        kept = np.concatenate([[0], np.cumsum(stays)])
        weights = None if self.weights is None else self.weights[:, alive]
        return replace(
            self,
            table=self.table[:, alive],
            weights=weights,
            flow_of=number[self.flow_of[stays]],
            start=kept[self.start],
        )


def crossings(links: int, table: Table, weights: Floats | None = None) -> Crossings:
    """Index a padded table by link."""
    flat = table.ravel()
    order = np.argsort(flat, kind="stable")
    start = np.searchsorted(flat[order], np.arange(links + 1))
    return Crossings(links, table, weights, order[: start[-1]] % max(table.shape[1], 1), start)
