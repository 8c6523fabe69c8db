"""KV on its way: transfers queue at the sender's and the receiver's lines."""

from dataclasses import dataclass

from simulator.cost.collective.transfer import MOVERS, line_share
from simulator.engine.fleet_spec import Fleet, TransferSpec


@dataclass(slots=True)
class Move:
    """One transfer. A new `version` makes its earlier end void."""

    number: int
    source: int
    source_rank: int
    target: int
    target_rank: int
    bytes: float
    hint_s: float
    """When its first layer was ready."""
    posted_s: float
    """When all of it was."""
    start_s: float = 0.0
    wire_s: float = 0.0
    end_s: float = 0.0
    version: int = 0
    stuck: bool = False
    """Its line is down."""


class Lines:
    """The lines of a fleet's ranks: what leaves and what comes, each in order of posting."""

    def __init__(self, fleet: Fleet) -> None:
        self._spec: TransferSpec | None = fleet.transfer
        self._rate = [spec.nic_bytes_per_s / spec.ranks for spec in fleet.replicas]
        self._out = [[0.0] * spec.ranks for spec in fleet.replicas]
        self._in = [[0.0] * spec.ranks for spec in fleet.replicas]
        self.nic_speed = [1.0] * len(fleet.replicas)
        self.link_speed: dict[tuple[int, int], float] = {}
        self.moving: dict[int, Move] = {}
        self.bytes_moved = 0.0
        if self._spec is not None:
            mover = MOVERS[self._spec.engine]
            self._fixed_s = mover.fixed_s + mover.layer_s * self._spec.layers + self._spec.latency_s
            self._share = line_share(self._spec.network, self._spec.engine)

    def speed(self, move: Move) -> float:
        """Share of its line that is left."""
        pair = self.link_speed.get((move.source, move.target), 1.0)
        return min(self.nic_speed[move.source], self.nic_speed[move.target], pair)

    def post(self, move: Move, now: float) -> bool:
        """Queue a transfer (again, after a fault); sets `end_s`. False: its line is down, nothing is scheduled."""
        assert self._spec is not None
        self.moving[move.number] = move
        move.version += 1
        speed = self.speed(move)
        move.stuck = speed <= 0.0
        if move.stuck:
            return False
        rate = min(self._rate[move.source], self._rate[move.target]) * self._share * speed
        leave, come = self._out[move.source], self._in[move.target]
        free = max(leave[move.source_rank], come[move.target_rank])
        move.wire_s = move.bytes / rate
        if self._spec.layerwise:
            move.start_s = max(move.hint_s, free)
            last = move.wire_s / max(self._spec.layers, 1)
            wired = max(move.start_s + move.wire_s, max(move.posted_s, free) + last)
        else:
            move.start_s = max(move.posted_s, free)
            wired = move.start_s + move.wire_s
        leave[move.source_rank] = come[move.target_rank] = wired
        move.end_s = max(wired + self._fixed_s, now)
        return True

    def arrived(self, number: int) -> Move:
        """A transfer is done."""
        move = self.moving.pop(number)
        self.bytes_moved += move.bytes
        return move

    def changed(self, now: float) -> list[Move]:
        """Lines became faster or slower: what still moves is posted anew, in order, with the bytes that are left."""
        for lines in (*self._out, *self._in):
            for rank, free_s in enumerate(lines):
                lines[rank] = min(free_s, now)
        moves = sorted(self.moving.values(), key=lambda move: (move.posted_s, move.number))
        for move in moves:
            if not move.stuck and move.start_s < now:
                left = 1.0 - min(1.0, (now - move.start_s) / move.wire_s if move.wire_s else 1.0)
                move.bytes *= left
            move.hint_s = move.posted_s = now
            self.post(move, now)
        return moves

    def forget(self, number: int) -> Move | None:
        """A transfer that one of its ends can no longer see through."""
        return self.moving.pop(number, None)
