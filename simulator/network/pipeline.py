"""A schedule whose rounds overlap, as flows: all its bytes share the links at once, after its longest chain.

What `collective.run_schedule` cannot show: a tree in many pieces, or NVLS, keeps its links busy but for the time of the
first piece. The time of the longest chain of transfers that wait for each other is paid once, and the bytes
of each pair are one flow. It is the limit of many small pieces.
"""

import numpy as np

from simulator.collectives.schedule import Schedule
from simulator.collectives.volume import Floats, Ints, pair_shares
from simulator.network.collective import PLAIN, PerMessage
from simulator.network.routing import Wires
from simulator.network.simulate import simulate_flows


def run_pipelined(
    schedule: Schedule, message_bytes: float, over: Wires, *, per_message: PerMessage = PLAIN, tolerance: float = 0.01
) -> float:
    """Seconds from the start to the last arrival; the message as `collectives.volume` defines it."""
    shares = pair_shares(schedule)
    sources, destinations = np.nonzero(shares)
    if not len(sources):
        return 0.0
    paths = over.router(sources, destinations, over.capacity_bytes_per_s)
    drained_s = simulate_flows(
        over.capacity_bytes_per_s,
        paths,
        shares[sources, destinations] * message_bytes,
        caps_bytes_per_s=np.full(len(sources), per_message.cap_bytes_per_s),
        tolerance=tolerance,
    )
    hop_s = paths.sums(over.latency_s) + per_message.overhead_s
    return float(drained_s.max()) + chain_s(schedule, sources, destinations, hop_s)


def chain_s(schedule: Schedule, sources: Ints, destinations: Ints, hop_s: Floats) -> float:
    """The longest time that a chain of transfers takes if each takes its pair's `hop_s`."""
    hop = dict(zip(zip(sources.tolist(), destinations.tolist(), strict=True), hop_s.tolist(), strict=True))
    at: dict[tuple[int, int], float] = {}
    for transfers in schedule.rounds:
        reached: dict[tuple[int, int], float] = {}
        for source, destination, chunk, _ in transfers:
            there = at.get((source, chunk), 0.0) + hop[source, destination]
            key = (destination, chunk)
            reached[key] = max(reached.get(key, at.get(key, 0.0)), there)
        at.update(reached)
    return max(at.values(), default=0.0)
