"""Who sends the next request of a fleet's workload: the clock, a client whose answer is complete, or a conversation."""

from collections.abc import Callable
from math import inf

from simulator.workload.closed_loop import ClosedLoop
from simulator.workload.requests import Requests

Send = Callable[[int, float, int], None]
"""(request, when, 1 where it follows an answer)."""


class Clients:
    """Requests that come by themselves, in order, and those that hang on an answer.

    `concurrency` clients of a closed loop send their next request as soon as they are answered; of conversations, the
    next conversation's first, once the last answer of theirs is complete.
    """

    def __init__(self, workload: Requests | ClosedLoop, send: Send) -> None:
        self.requests: Requests = workload.requests if isinstance(workload, ClosedLoop) else workload
        self.concurrency = workload.concurrency if isinstance(workload, ClosedLoop) else 0
        self._send = send
        self._sent = 0
        before_s = self.requests.before_s
        self._before_s: list[float] = [] if before_s is None else before_s.tolist()
        """From a client's deciding to send to the request's being here."""
        self._following: dict[int, list[int]] = {}
        self._roots = self._order()

    def _order(self) -> list[int]:
        count, after, delay_s = len(self.requests), self.requests.after, self.requests.delay_s
        if after is None or delay_s is None:
            return list(range(count))
        self._delay_s: list[float] = delay_s.tolist()
        for number, earlier in enumerate(after.tolist()):
            if earlier >= 0:
                self._following.setdefault(earlier, []).append(number)
        return [number for number, earlier in enumerate(after.tolist()) if earlier < 0]

    def begin(self) -> None:
        """The run starts: all clients send, or the first arrival is awaited."""
        for _ in range(min(self.concurrency or 1, len(self._roots))):
            self._next(0.0 if self.concurrency else -inf)

    def came(self, follows: int) -> None:
        """A request has come; where it came by itself, the next one that does is awaited."""
        if not follows and not self.concurrency:
            self._next(-inf)

    def answered(self, number: int, now: float) -> None:
        """A request is answered or refused: its client goes on."""
        later = self._following.pop(number, None) if self._following else None
        if later is not None:
            for follower in later:
                self._send(follower, now + self._delay_s[follower], 1)
        elif self.concurrency:
            self._next(now)

    def _next(self, now: float) -> None:
        if self._sent < len(self._roots):
            number = self._roots[self._sent]
            self._sent += 1
            if self.concurrency:
                self._send(number, now + (self._before_s[number] if self._before_s else 0.0), 0)
            else:
                self._send(number, float(self.requests.arrival_s[number]), 0)
