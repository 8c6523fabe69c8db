"""A schedule with its equal rounds folded: which pair moves how much at once, and how often.

A ring of 16,384 ranks has 5e8 transfers but one pattern: every rank sends to its neighbour, round after round. The
flow reading needs no more than that.
"""

from dataclasses import dataclass

import numpy as np

from simulator.collectives.build import build, check_request
from simulator.collectives.builders.ring import ring_orders
from simulator.collectives.builders.setting import Setting
from simulator.collectives.schedule import Kind, Nodes, Schedule
from simulator.collectives.volume import Floats, Ints, chunk_shares


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """Flows that run at once, `repeats` times one after the other; shares of the message, one a flow.

    `sources` and `destinations` are vertices, shape (flows,), each pair once, in order.
    """

    sources: Ints
    destinations: Ints
    shares: Floats
    repeats: int


def phases_of(schedule: Schedule) -> tuple[Phase, ...]:
    """Folded from a schedule: chunks of one pair in one round are one flow, equal rounds in a row one phase."""
    shares = chunk_shares(schedule)
    found: list[Phase] = []
    for transfers in schedule.rounds:
        table = np.array([t[:3] for t in transfers], dtype=np.int64).reshape(-1, 3)
        phase = _phase(table[:, 0], table[:, 1], shares[table[:, 2]], 1)
        if found and _equal(found[-1], phase):
            phase = Phase(phase.sources, phase.destinations, phase.shares, found.pop().repeats + 1)
        found.append(phase)
    return tuple(found)


def phases(
    kind: Kind, algorithm: str, ranks: int, *, nodes: Nodes | None = None, channels: int = 1, pipeline: int = 4
) -> tuple[Phase, ...]:
    """The same without listing a schedule, for rings and hierarchical rings of any size; others by listing it."""
    setting = Setting(ranks, nodes or (tuple(range(ranks)),), channels, pipeline)
    check_request(kind, algorithm, setting)
    turn = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}.get(kind, 0)
    if ranks > 1 and turn and algorithm == "ring":
        return _folded([_rings(ring_orders(setting.nodes, channels), 1 / (ranks * channels), turn * (ranks - 1))])
    if ranks > 1 and turn and algorithm == "hierarchical":
        return _folded(_hierarchical(kind, setting))
    return phases_of(build(kind, algorithm, ranks, nodes=nodes, channels=channels, pipeline=pipeline))


def _hierarchical(kind: Kind, setting: Setting) -> list[Phase]:
    count, size = setting.equal_nodes(f"hierarchical {kind}")
    rails = tuple(tuple(node[place] for node in setting.nodes) for place in range(size))
    inside = _rings(setting.nodes, 1 / size, size - 1)
    across = _rings(rails, 1 / setting.ranks, count - 1)
    match kind:
        case "reduce_scatter":
            return [inside, across]
        case "all_gather":
            return [across, inside]
        case _:
            return [inside, across, across, inside]


def _rings(orders: tuple[tuple[int, ...], ...], share: float, repeats: int) -> Phase:
    table = np.array(orders, dtype=np.int64)
    return _phase(table.ravel(), np.roll(table, -1, axis=1).ravel(), np.full(table.size, share), repeats)


def _folded(parts: list[Phase]) -> tuple[Phase, ...]:
    found: list[Phase] = []
    for phase in parts:
        if phase.repeats == 0:
            continue
        if found and _equal(found[-1], phase):
            last = found.pop()
            phase = Phase(phase.sources, phase.destinations, phase.shares, last.repeats + phase.repeats)
        found.append(phase)
    return tuple(found)


def _phase(sources: Ints, destinations: Ints, shares: Floats, repeats: int) -> Phase:
    base = int(max(sources.max(initial=0), destinations.max(initial=0))) + 1
    pairs, which = np.unique(sources * base + destinations, return_inverse=True)
    total: Floats = np.zeros(len(pairs))
    np.add.at(total, which, shares)
    return Phase(pairs // base, pairs % base, total, repeats)


def _equal(a: Phase, b: Phase) -> bool:
    return (
        np.array_equal(a.sources, b.sources)
        and np.array_equal(a.destinations, b.destinations)
        and np.allclose(a.shares, b.shares, rtol=1e-12, atol=0.0)
    )
