"""KV on its way: transfers share the sender's and the receiver's lines fairly, and the NICs with the expert exchange.

Rates are max-min fair over the lines in use (Bertsekas and Gallager, Data Networks, 2nd ed. 1992, section 6.5.2): no
transfer's could grow without shrinking that of one that has no more. A change touches only the transfers that hang
together through shared lines; one that is alone costs nothing but itself.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from simulator.cost.collective.transfer import MOVERS, line_share
from simulator.engine.fleet_spec import Fleet, TransferSpec

_DONE = 1e-9
"""Part of a transfer's bytes that rounding may leave."""


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
    left_bytes: float = 0.0
    rate: float = 0.0
    """Bytes a second, since `updated_s`."""
    updated_s: float = 0.0
    wired_s: float = 0.0
    """When its last byte leaves, as things stand."""
    end_s: float = 0.0
    """When the other side knows that all is there."""
    version: int = 0
    sure: bool = False
    """Its end is scheduled: nobody shares its lines."""
    stuck: bool = False
    """A line of it is down."""


Schedule = Callable[[Move, float, bool], None]
"""(transfer, when, all there): its end, or (False) only the moment when its lines are free for others."""


class Lines:
    """The lines of a fleet's ranks, one that leaves and one that comes for each."""

    def __init__(self, fleet: Fleet, schedule: Schedule) -> None:
        self._spec: TransferSpec | None = fleet.transfer
        self._schedule = schedule
        self._owner = [index for index, spec in enumerate(fleet.replicas) for _ in range(spec.ranks)]
        self._first = [sum(spec.ranks for spec in fleet.replicas[:index]) for index in range(len(fleet.replicas))]
        self._ranks = len(self._owner)
        self._on: list[dict[int, Move]] = [{} for _ in range(2 * self._ranks)]
        self._idle_from = [0.0] * (2 * self._ranks)
        """Since when a line has carried nothing that is not accounted for."""
        self.nic_speed = [1.0] * len(fleet.replicas)
        self.link_speed: dict[tuple[int, int], float] = {}
        self.moving: dict[int, Move] = {}
        self.bytes_moved = 0.0
        self._exchange = [spec.exchange_share for spec in fleet.replicas]
        self._exchanges = any(self._exchange)
        self._counted_s = [0.0] * len(fleet.replicas)
        self.owed_s = [0.0] * len(fleet.replicas)
        """Seconds by which KV on its NICs has slowed a replica's own exchange, and that its steps have yet to pay."""
        self._rate = [spec.nic_bytes_per_s / spec.ranks / (1.0 + spec.exchange_share) for spec in fleet.replicas]
        if self._spec is not None:
            mover = MOVERS[self._spec.engine]
            self._fixed_s = mover.fixed_s + mover.layer_s * self._spec.layers + self._spec.latency_s
            share = line_share(self._spec.network, self._spec.engine)
            self._rate = [rate * share for rate in self._rate]
        self._capacity = [self.capacity(line) for line in range(len(self._on))]

    # ---- what happens to a transfer ---------------------------------------------------------------------------

    def post(self, move: Move, now: float) -> None:
        """Put a transfer on its lines."""
        assert self._spec is not None
        lines = self._lines(move)
        self.moving[move.number] = move
        alone = not (self._on[lines[0]] or self._on[lines[1]])
        if not alone:
            self._advance(lines, now)
        move.left_bytes = move.bytes - (self._pushed(move, lines, now) if self._spec.layerwise else 0.0)
        move.updated_s = now
        for line in lines:
            self._on[line][move.number] = move
        if alone:
            move.rate = self._cap(move, lines)
            self._expect([move], now)
        else:
            self._share(lines, now)

    def wired(self, number: int, version: int, now: float) -> None:
        """The last byte of a transfer has left: others get its part of the lines."""
        move = self.moving.get(number)
        if move is not None and move.version == version:
            lines = self._lines(move)
            self._advance(lines, now)
            self._share(lines, now)

    def arrived(self, number: int, version: int, now: float) -> Move | None:
        """A transfer is done; None: that was its end before something changed."""
        move = self.moving.get(number)
        if move is None or move.version != version:
            return None
        self._progress(move, now)
        self._leave(move)
        return self.moving.pop(number)

    def forget(self, number: int, now: float) -> None:
        """A transfer that one of its ends can no longer see through."""
        move = self.moving.pop(number, None)
        if move is not None:
            lines = self._lines(move)
            self._advance(lines, now)
            self._leave(move)
            self._share(lines, now)

    def change(self, now: float, alter: Callable[[], None]) -> None:
        """Lines become faster or slower."""
        used = [line for line, moves in enumerate(self._on) if moves]
        self._advance(used, now)
        alter()
        self._capacity = [self.capacity(line) for line in range(len(self._on))]
        self._share(used, now)

    def paid(self, replica: int) -> float:
        """The seconds that a replica owes; it pays them now."""
        owed, self.owed_s[replica] = self.owed_s[replica], 0.0
        return owed

    # ---- who gets how much ------------------------------------------------------------------------------------

    def capacity(self, line: int) -> float:
        """Bytes a second that a line carries of KV."""
        owner = self._owner[line % self._ranks]
        return self._rate[owner] * self.nic_speed[owner]

    def overfull(self) -> bool:
        """Whether a line is asked for more than it carries."""
        return any(
            moves and sum(move.rate for move in moves.values()) > self.capacity(line) * (1.0 + 1e-9) + 1e-9
            for line, moves in enumerate(self._on)
        )  # fmt: skip

    def _lines(self, move: Move) -> tuple[int, int]:
        return (
            self._first[move.source] + move.source_rank,
            self._ranks + self._first[move.target] + move.target_rank,
        )  # fmt: skip

    def _pushed(self, move: Move, lines: tuple[int, int], now: float) -> float:
        """Bytes that left while the prompt was computed over idle lines, at most all but the last layer's."""
        assert self._spec is not None
        rate = self._cap(move, lines)
        since_s = max(move.hint_s, self._idle_from[lines[0]], self._idle_from[lines[1]])
        most = move.bytes * (1.0 - 1.0 / max(self._spec.layers, 1))
        pushed = min(most, rate * max(0.0, now - since_s))
        if pushed > 0.0:
            for line in lines:
                self._idle_from[line] = max(self._idle_from[line], move.hint_s) + pushed / self._capacity[line]
            if self._exchanges:
                self._disturb(move, pushed / rate, rate)
        return pushed

    def _together(self, starts: Iterable[int]) -> list[Move]:
        """All transfers that hang together with these lines."""
        found: dict[int, Move] = {}
        todo, seen = list(starts), set[int]()
        while todo:
            line = todo.pop()
            if line not in seen:
                seen.add(line)
                for number, move in self._on[line].items():
                    if number not in found:
                        found[number] = move
                        todo.extend(self._lines(move))
        return list(found.values())

    def _advance(self, starts: Iterable[int], now: float) -> None:
        """Bring transfers up to now; whoever's last byte has left is off the lines."""
        for move in self._together(starts):
            self._progress(move, now)
            if move.left_bytes <= _DONE * move.bytes and not (move.stuck and move.left_bytes):
                self._leave(move)
                if not move.sure:
                    self._end(move, min(move.wired_s, now))

    def _progress(self, move: Move, now: float) -> None:
        seconds = min(now, move.wired_s) - move.updated_s
        if seconds > 0.0 and move.rate > 0.0:
            for line in self._lines(move):
                idle = max(self._idle_from[line], move.updated_s)
                self._idle_from[line] = min(now, idle + seconds * move.rate / self._capacity[line])
            if self._exchanges:
                self._disturb(move, seconds, move.rate, now)
            move.left_bytes = 0.0 if now >= move.wired_s else max(0.0, move.left_bytes - move.rate * seconds)
        move.updated_s = now

    def _leave(self, move: Move) -> None:
        for line in self._lines(move):
            self._on[line].pop(move.number, None)

    def _end(self, move: Move, wired_s: float) -> None:
        move.sure, move.version = True, move.version + 1
        move.wired_s, move.end_s = wired_s, wired_s + self._fixed_s
        self._schedule(move, move.end_s, True)

    def _share(self, starts: Iterable[int], now: float) -> None:
        """New fair rates and ends for all that hang together with these lines."""
        seen = set[int]()
        for start in starts:
            moves = [] if start in seen else self._together((start,))
            for move in moves:
                seen.update(self._lines(move))
            if moves:
                self._fill(moves)
                self._expect(moves, now)

    def _expect(self, moves: list[Move], now: float) -> None:
        first: Move | None = None
        for move in moves:
            move.version += 1
            move.sure, move.stuck = False, move.rate <= 0.0
            if move.stuck:
                continue
            move.wired_s = now + move.left_bytes / move.rate
            move.end_s = move.wired_s + self._fixed_s
            if first is None or move.wired_s < first.wired_s:
                first = move
        if first is not None and len(moves) == 1:
            first.sure = True
            self._schedule(first, first.end_s, True)
        elif first is not None:
            self._schedule(first, first.wired_s, False)

    def _fill(self, moves: list[Move]) -> None:
        """Max-min fair rates by progressive filling."""
        left: dict[int, float] = {}
        count: dict[int, int] = {}
        for move in moves:
            move.rate = -1.0
            for line in self._lines(move):
                left[line] = self._capacity[line]
                count[line] = count.get(line, 0) + 1
        rest = moves
        while rest:
            line = min((line for line in count if count[line]), key=lambda line: left[line] / count[line])
            level = left[line] / count[line]
            caps = {move.number: self._cap(move, self._lines(move)) for move in rest} if self.link_speed else {}
            final = [move for move in rest if caps.get(move.number, level) < level]
            final = final or [move for move in rest if line in self._lines(move)]
            for move in final:
                move.rate = max(0.0, min(level, caps.get(move.number, level)))
                for crossed in self._lines(move):
                    left[crossed] = max(0.0, left[crossed] - move.rate)
                    count[crossed] -= 1
            rest = [move for move in rest if move.rate < 0.0]

    def _cap(self, move: Move, lines: tuple[int, int]) -> float:
        """What one transfer gets that is alone, over a link between its replicas that may be slowed down."""
        whole = min(self._capacity[lines[0]], self._capacity[lines[1]])
        return whole * self.link_speed.get((move.source, move.target), 1.0) if self.link_speed else whole

    # ---- the expert exchange of the same NICs -----------------------------------------------------------------

    def _disturb(self, move: Move, seconds: float, rate: float, now: float | None = None) -> None:
        """KV took part of two replicas' NICs for so long.

        A replica's exchange uses its NICs for a share x of a step and needs all of them then. While KV takes the part u
        of a line, at most one half where both want it, the exchange takes 1 / (1 - u) as long, and with it the step of
        all ranks, which meet in it: a step that took t takes t (1 + x u / (1 - u)). KV gets at most 1 / (1 + x) of the
        line on average, which is what `_rate` allows: line and time are conserved.
        """
        for line, owner in zip(self._lines(move), (move.source, move.target), strict=True):
            share = self._exchange[owner]
            if not share:
                continue
            fresh = seconds
            if now is not None:  # other ranks' transfers at the same time slow the same exchange
                fresh = min(seconds, now - self._counted_s[owner])
                self._counted_s[owner] = max(self._counted_s[owner], now)
            part = min(0.5, rate / (self._capacity[line] * (1.0 + share)))
            slower = share * part / (1.0 - part)
            self.owed_s[owner] += max(0.0, fresh) * slower / (1.0 + slower)
