"""The network as flows that share links fairly: `fidelity: flow`, where transfers meet and links fail."""

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import simpy

from simulator.engine.deployment import LinkFault
from simulator.engine.links import Links, Passage
from simulator.errors import TopologyError
from simulator.network.fabric import Fabric
from simulator.network.incidence import Floats, Ints, Paths, paths_of
from simulator.topology.cluster import Cluster
from simulator.topology.routes import route_avoiding

Pair = tuple[int, int]
"""GPUs at both ends; the same twice for a flow to or from a switch, which has no other way."""


class FlowNetwork:
    """Keeps one timer on the fluid fabric; a batch of flows is an event that fires with its last byte."""

    def __init__(
        self, env: simpy.Environment, cluster: Cluster, links: Links, faults: Sequence[LinkFault] = ()
    ) -> None:
        self.env, self.cluster, self.links = env, cluster, links
        self.fabric = Fabric(cluster.link_bandwidth_bytes_per_s, reroute=self._again)
        self._batch: dict[int, simpy.Event] = {}
        self._waiting: dict[simpy.Event, int] = {}
        self._pair: dict[int, Pair] = {}
        self._started: dict[int, tuple[float, tuple[int, ...], float, str]] = {}
        self._timer = self._count = 0
        for fault in faults:
            event = env.timeout(fault.at_s)
            event.callbacks.append(partial(self._fail, fault))

    def start(
        self, pairs: Sequence[Pair], paths: Sequence[tuple[int, ...]], sizes: Sequence[float], label: str
    ) -> simpy.Event:
        """Starts flows now; the event fires when all of them have arrived (latency is the caller's)."""
        self._pass()
        done = self.env.event()
        first = self._count
        self._count += len(pairs)
        self._pair.update((first + i, pair) for i, pair in enumerate(pairs))
        ids = self.fabric.add(paths_of(list(paths)), np.asarray(sizes, dtype=np.float64))
        self._waiting[done] = len(ids)
        for flow, path, size in zip(ids.tolist(), paths, sizes, strict=True):
            self._batch[flow] = done
            self._started[flow] = (self.env.now, path, size, label)
        self._set_timer()
        return done

    def send(
        self, pair: Pair, path: tuple[int, ...], size: float, latency_s: float, efficiency: float, label: str
    ) -> Generator[simpy.Event, Any, None]:
        """One message as a process: its latency, then its bytes, as many more as the protocol wastes of the rate."""
        yield self.env.timeout(latency_s)
        if path:
            yield self.start([pair], [path], [size / efficiency], label)

    def _again(self, flows: Ints, capacity: Floats) -> Paths:
        """Other ways for flows that cross a dead link."""
        down = np.flatnonzero(capacity <= 0).tolist()
        fresh = []
        for flow in flows.tolist():
            source, destination = self._pair[flow]
            if source == destination:
                raise TopologyError(given=f"GPU {source}", rule="its link to the switch is down: there is no other way")
            fresh.append(route_avoiding(self.cluster, source, destination, down))
        return paths_of(fresh)

    def _fail(self, fault: LinkFault, _event: simpy.Event) -> None:
        self._pass()
        full = float(self.cluster.link_bandwidth_bytes_per_s[fault.link])
        self.fabric.set_capacity(fault.link, full * fault.factor)
        self._set_timer()

    def _pass(self) -> None:
        for end_s, flow in self.fabric.advance(self.env.now):
            self._finish(flow, end_s)

    def _finish(self, flow: int, end_s: float) -> None:
        start_s, path, size, label = self._started.pop(flow)
        self._pair.pop(flow)
        self.links.log.extend(Passage(link, start_s, end_s, size, label) for link in path)
        done = self._batch.pop(flow)
        self._waiting[done] -= 1
        if self._waiting[done] == 0:
            del self._waiting[done]
            done.succeed()

    def _set_timer(self) -> None:
        self._timer += 1
        at_s = self.fabric.next_completion_s()
        if np.isfinite(at_s):
            event = self.env.timeout(max(0.0, at_s - self.env.now))
            event.callbacks.append(partial(self._ring, self._timer))

    def _ring(self, number: int, _event: simpy.Event) -> None:
        if number != self._timer:
            return
        self._pass()
        self._set_timer()
