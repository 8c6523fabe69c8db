"""A global scheduler as a pure machine: a queue served one by one, and a view of the replicas that may be old."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from simulator.serving.router import Sight, find_router


class Master:
    """Requests come by `arrive`; `next` names the one to dispatch, which takes `dispatch_s`; `choose` picks a replica.

    Raises ScenarioError for a policy that is not known.
    """

    def __init__(self, name: str, policy: str, replicas: int, *, fresh: bool, rng: np.random.Generator) -> None:
        self.name, self._choose, self._rng = name, find_router(policy), rng
        self._remembers = policy == "prefix_aware"
        self.fresh = fresh
        """Its view is always up to date."""
        self.queue: deque[int] = deque()
        self.current = -1
        """The request that it is dispatching; -1: none."""
        self.up = True
        self.dispatched = 0
        self.longest = 0
        """Requests that waited here at most at a time, the one being dispatched included."""
        self._classes: dict[int, int] = {}
        """Of requests that are not of class 0."""
        self._view = [0] * replicas
        self._turns: dict[Sequence[int], int] = {}
        self._sent: list[set[int]] = [set() for _ in range(replicas)]

    @property
    def waiting(self) -> int:
        """Requests that it holds."""
        return len(self.queue) + (self.current >= 0)

    def arrive(self, request: int, priority: int = 0) -> None:
        """A request joins the queue, behind those of its class and of lower ones."""
        classes = self._classes
        if priority:
            classes[request] = priority
        if not classes or not self.queue or classes.get(self.queue[-1], 0) <= priority:
            self.queue.append(request)
        else:
            self.queue.insert(sum(classes.get(other, 0) <= priority for other in self.queue), request)
        self.longest = max(self.longest, self.waiting)

    def next(self) -> int:
        """Begin to dispatch the first in the queue; -1: nothing to do, or busy, or dead."""
        if self.current >= 0 or not self.queue or not self.up:
            return -1
        self.current = self.queue.popleft()
        return self.current

    def done(self) -> int:
        """The current request has been dispatched."""
        request, self.current = self.current, -1
        self.dispatched += 1
        return request

    def take_all(self) -> list[int]:
        """Everything that it holds, in order: the master is dead, others go on."""
        held = [self.current] if self.current >= 0 else []
        held += self.queue
        self.queue.clear()
        self.current = -1
        return held

    def look(self, loads: Sequence[int]) -> None:
        """Refresh the view."""
        self._view = list(loads)

    def choose(
        self, replicas: tuple[int, ...], loads: Sequence[int], hashes: tuple[int, ...] = (), session: int = 0
    ) -> int:
        """One of `replicas`; `loads` are the true ones, which only an up-to-date master sees."""
        if len(replicas) == 1:
            best = replicas[0]
        else:
            turn = self._turns[replicas] = self._turns.get(replicas, -1) + 1
            seen = self._sent

            def cached(replica: int) -> int:
                count = 0
                for block in hashes:
                    if block not in seen[replica]:
                        break
                    count += 1
                return count

            view = loads if self.fresh else self._view
            best = self._choose(replicas, Sight(view, turn, self._rng, session, cached, len(hashes)))
        if not self.fresh:
            self._view[best] += 1
        if self._remembers and hashes:
            self._sent[best].update(hashes)
        return best
