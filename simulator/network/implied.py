"""Links that can never be full because of what feeds them, or of what they feed, are left out.

A link whose flows all come from links that together carry no more than it does adds no constraint; neither does one
whose flows all go on to such links. The rates that are possible stay the same, and with them the max-min fair ones.
GPU to PCIe switch to NIC to leaf is then one link, the slowest.
"""

import numpy as np

from simulator.network.incidence import Floats, Table, distinct


def without_implied(capacity: Floats, table: Table) -> Table:
    """The padded table, narrower: first without links implied by those before them, then by those after them.

    One direction after the other, each judged by the links that are still there: two equal links in a row each imply
    the other, and one of them must stay.
    """
    forward = _dropped(capacity, table)
    return _dropped(capacity, forward[::-1])[::-1]


def _dropped(capacity: Floats, table: Table) -> Table:
    """Drop links implied by the link before; rows are places on the path, first to last."""
    links = len(capacity)
    fed = np.zeros(links + 1)
    before = np.full(table.shape[1], links, dtype=np.int64)
    pairs = []
    for row in table:
        real = row < links
        pairs.append(distinct(row[real].astype(np.int64) * (links + 1) + before[real]))
        before = np.where(real, row, before)
    if pairs:
        each = distinct(np.concatenate(pairs))
        np.add.at(fed, each // (links + 1), np.append(capacity, np.inf)[each % (links + 1)])
    implied = np.append(fed[:links] <= capacity, True)
    return _packed(np.where(implied[table], links, table), links)


def _packed(table: Table, padding: int) -> Table:
    """Real links first on each path, in order, in as many rows as the longest path needs."""
    order = np.argsort(table == padding, axis=0, kind="stable")
    packed = np.take_along_axis(table, order, axis=0)
    return packed[: int((packed != padding).any(axis=1).sum())].astype(np.int32)
