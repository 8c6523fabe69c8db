"""What happens to flows whose link goes down: another way, or an error that names them."""

from collections.abc import Callable

import numpy as np

from simulator.errors import StalledError
from simulator.network.incidence import Bools, Floats, Ints, Paths, joined

Reroute = Callable[[Ints, Floats], Paths]
"""New paths for some flows (by number), given the links' capacities (0: down); one path a flow, in their order."""


def crosses_dead(capacity: Floats, paths: Paths) -> Bools:
    """Which flows cross a link that is down."""
    return paths.sums((capacity <= 0).astype(np.float64)) > 0.5


def around(capacity: Floats, paths: Paths, unfinished: Bools, reroute: Reroute | None) -> Paths:
    """Paths with those of unfinished flows over dead links replaced; StalledError where there is no way round."""
    hit = np.flatnonzero(unfinished & crosses_dead(capacity, paths))
    if not len(hit):
        return paths
    fresh = paths.take(hit) if reroute is None else reroute(hit, capacity)
    dead = np.flatnonzero(crosses_dead(capacity, fresh))
    if len(dead):
        path = fresh.path(int(dead[0]))
        raise StalledError(
            where=f"flow {hit[dead[0]]}",
            given=f"link {path[capacity[path] <= 0][0]} is down",
            rule=f"{len(dead)} flows have no way round it",
            way_out="add a route, or let routing re-route",
        )
    order = np.arange(paths.flows)
    order[hit] = paths.flows + np.arange(len(hit))
    return joined([paths, fresh]).take(order)
