"""Bytes on every link: what simulated messages carried, and what collectives in closed form would have."""

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd

from simulator.engine.communicator import Communicator
from simulator.engine.links import Passage
from simulator.engine.session import Simulation
from simulator.program.ops import Collective
from simulator.topology.routes import link_class

LINK_COLUMNS = ["link", "source", "destination", "link_class", "bandwidth_bytes_per_s", "bytes", "busy_s"]


def link_frame(simulation: Simulation) -> pd.DataFrame:
    """One row per link that carried anything, busiest first."""
    links, comm = simulation.links, simulation.communicator
    if links is None or comm is None:
        return pd.DataFrame(columns=LINK_COLUMNS)
    carried: dict[int, float] = defaultdict(float)
    for passage in links.log:
        carried[passage.link] += passage.bytes
    for (_, gpus), ops in comm.closed.items():
        _add_closed(carried, comm, ops, gpus)
    return _described(simulation, carried)


def _described(simulation: Simulation, carried: dict[int, float]) -> pd.DataFrame:
    cluster = simulation.deployment.cluster
    rows: list[tuple[Any, ...]] = []
    for link, size in carried.items():
        rate = float(cluster.link_bandwidth_bytes_per_s[link])
        source, destination = int(cluster.link_source[link]), int(cluster.link_destination[link])
        rows.append(
            (
                link,
                cluster.vertex_name(source),
                cluster.vertex_name(destination),
                link_class(cluster, link),
                rate,
                size,
                size / rate,
            )
        )
    frame = pd.DataFrame(rows, columns=LINK_COLUMNS)
    return frame.sort_values(["busy_s", "link"], ascending=[False, True], ignore_index=True)


def _add_closed(carried: dict[int, float], comm: Communicator, ops: list[Collective], gpus: tuple[int, ...]) -> None:
    """The algorithm's bytes between each pair, over the pair's route, as often as the collective ran."""
    op = ops[0]
    pairs = comm.pair_bytes(op, gpus) * len(ops)
    for source, destination in zip(*np.nonzero(pairs), strict=True):
        for link in comm.path(gpus, int(source), int(destination)):
            carried[link] += float(pairs[source, destination])


def transfer_frame(log: list[Passage]) -> pd.DataFrame:
    """One row per message on a simulated link."""
    return pd.DataFrame(log, columns=["link", "start_s", "end_s", "bytes", "label"])
