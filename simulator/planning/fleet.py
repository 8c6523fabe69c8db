"""A candidate as it would run: all replicas behind one router, KV on its way between pools. A task of the search.

The replicas that `simulate` runs alone have their share of the traffic, dealt at random. Here the router deals it,
transfers meet at both ends, and decode replicas compute anew what they preempt. What holds is found again from there:
replicas up or down for an asked load, the rate by bisection for the most that a fleet holds.
"""

from dataclasses import dataclass, replace

import numpy as np

from simulator.engine.fleet import FleetServed, serve_fleet
from simulator.engine.fleet_spec import Fleet, MasterSpec, ReplicaSpec, TransferSpec
from simulator.engine.server import Server, kv_memory_bytes, memory_for
from simulator.errors import ShardsimError
from simulator.planning.assess import Assessed, front_s
from simulator.planning.designs import Design, alone, setup_of
from simulator.planning.handover import line_bytes_per_s, transfer_of
from simulator.planning.piped import piped
from simulator.planning.question import Question
from simulator.planning.simulate import (
    BEHIND,
    RESOLUTION,
    WARM,
    Floats,
    Ring,
    Task,
    last_stages_s,
    policy_of,
    replay_table,
    search,
)
from simulator.planning.sizing import LUCK, within

FEWEST, MOST = 300, 6000
"""Requests of one run: `LIVES` times those in flight, within these."""
LIVES = 2.0
EASE = 0.6
"""Part of the most it holds at which a fleet is looked at besides: how fast it is with room to spare."""
SIZES = 12
"""Fleets of other sizes that are tried for an asked load, at most."""


@dataclass(frozen=True, slots=True)
class FleetTask:
    """A candidate's parts, how many of each, and the most that they hold by what was simulated so far."""

    question: Question
    parts: tuple[Assessed, ...]
    counts: tuple[int, ...]
    load: float


@dataclass(frozen=True, slots=True)
class FleetPoint:
    """One load of one fleet."""

    counts: tuple[int, ...]
    load: float
    ttft_s: float
    tpot_s: float
    e2el_s: float
    holds: bool
    decode_batch: float
    """Decoding sequences of one replica."""


@dataclass(frozen=True, slots=True)
class FleetFound:
    """The fleet that holds: how many of each part, the most it holds, its points in order of load."""

    counts: tuple[int, ...]
    most: float
    """0: none holds."""
    points: tuple[FleetPoint, ...]
    """Of these counts."""
    requests: int
    """Simulated in all."""
    reason: str = ""
    """Why none holds."""


def on_fleet(task: FleetTask) -> FleetFound:
    """The candidate on a fleet, sized for the load that is asked, else at the most that it holds."""
    try:
        return _Sizing(task).found()
    except ShardsimError as error:
        return FleetFound(task.counts, 0.0, (), 0, error.rule)


class FleetRuns:
    """Runs of one candidate at any size."""

    def __init__(self, question: Question, parts: tuple[Assessed, ...]) -> None:
        self.question, self.parts = question, parts
        tables: dict[Design, list[Assessed]] = {}
        for part in parts:
            tables.setdefault(alone(part.design), []).append(part)
        known = {cut: replay_table(Task(question, tuple(members))) for cut, members in tables.items()}
        self._specs: list[ReplicaSpec] = []
        self._transfer: TransferSpec | None = None
        traffic = question.traffic
        longest = traffic.input_tokens + traffic.output_tokens
        for part in parts:
            design, setup = part.design, setup_of(question, part.design)
            platform, table, policy = (
                question.platforms[design.platform],
                known[alone(design)],
                policy_of(question, part),
            )
            steps = piped(table, platform, design.layout)
            blocks = memory_for(Server(setup, table, kv_memory_bytes(setup)), policy, longest)
            self._specs.append(ReplicaSpec(
                part.role, Ring(steps, design.layout.pp), policy, blocks.capacity, part.role, part.role,
                design.layout.dp_attention, design.layout.ranks,
                nic_bytes_per_s=line_bytes_per_s(platform) * design.layout.ranks,
                prefix_block_tokens=traffic.block_tokens if traffic.shares_prefixes else 0,
            ))  # fmt: skip
            if part.role == "decode":
                self._transfer = transfer_of(setup, design.engine, longest)
        front = parts[0]
        steps = piped(known[alone(front.design)], question.platforms[front.design.platform], front.design.layout)
        self._late_s = last_stages_s(steps, question, front) + front_s(question)

    def fleet(self, counts: tuple[int, ...]) -> Fleet:
        """So many replicas of each part behind the question's router."""
        replicas = [
            replace(spec, name=f"{spec.role} {i}")
            for spec, count in zip(self._specs, counts, strict=True)
            for i in range(count)
        ]
        return Fleet(tuple(replicas), (MasterSpec("router", self.question.router),), self._transfer)

    def run(self, counts: tuple[int, ...], load: float, count: int) -> tuple[FleetServed, Floats, Floats]:
        """(what was served, TTFT, TPOT) of about `count` requests at this load, in seconds."""
        served = serve_fleet(self.question.traffic.requests(load, count), self.fleet(counts), log=False)
        ttft = served.first_token_s - served.arrival_s + self._late_s
        return served, ttft, (served.finish_s - served.first_token_s) / np.maximum(served.output_tokens - 1, 1)

    def point(self, counts: tuple[int, ...], load: float, count: int, in_flight: float) -> FleetPoint:
        """One load; requests count after the fleet has filled."""
        slo = self.question.slo
        served, ttft, tpot = self.run(counts, load, count)
        first = min(int(WARM * in_flight), len(ttft) // 2)
        e2el = ttft + tpot * (served.output_tokens - 1)
        values = [float(np.percentile(column[first:], slo.percentile)) for column in (ttft, tpot, e2el)]
        limits = (slo.ttft_s, slo.tpot_s, slo.e2el_s)
        waiting = int((served.first_token_s > float(served.arrival_s[-1])).sum())
        front = self.parts[0].design.layout
        lanes = counts[0] * front.dp_attention * front.pp
        # As many prompts as there are lanes are being computed at any time, and wait for nothing.
        behind = waiting > BEHIND * len(ttft) + lanes + len(counts)
        good = all(limit is None or value <= limit for value, limit in zip(values, limits, strict=True))
        span = max(float(served.finish_s.max()), 1e-9)
        running = float((served.finish_s - served.first_token_s).sum()) / span / counts[-1]
        return FleetPoint(counts, load, values[0], values[1], values[2], good and not behind, running)


class _Sizing:
    """Looks for the fleet that holds."""

    def __init__(self, task: FleetTask) -> None:
        self.task, self.question, self.parts = task, task.question, task.parts
        self.runs = FleetRuns(task.question, task.parts)
        self.requests = 0
        self.known: dict[tuple[tuple[int, ...], float], FleetPoint] = {}

    def found(self) -> FleetFound:
        counts = self.task.counts
        asked = self.question.asked_load
        if asked is not None:
            sized = self._sized(counts, asked)
            if sized is None:
                return FleetFound(counts, 0.0, self._points(counts), self.requests, "the fleet does not hold the load")
            counts = sized
        top = min(
            count * (part.curve.best_load if part.curve else 0.0) * (1.0 + LUCK)
            for part, count in zip(self.parts, counts, strict=True)
        )
        least = asked or 0.0
        share = min(now / before for now, before in zip(counts, self.task.counts, strict=True))
        guess = max(least, min(self.task.load * share, top))
        most = max(least, search(lambda load: self._at(counts, load).holds, guess, RESOLUTION, max(top, least)))
        if most:
            self._at(counts, EASE * most)
        return FleetFound(counts, most, self._points(counts), self.requests, "" if most else "no load holds")

    def _points(self, counts: tuple[int, ...]) -> tuple[FleetPoint, ...]:
        mine = [point for (size, _), point in self.known.items() if size == counts]
        return tuple(sorted(mine, key=lambda point: point.load))

    def _at(self, counts: tuple[int, ...], load: float) -> FleetPoint:
        point = self.known.get((counts, load))
        if point is None:
            in_flight = self._in_flight(counts, load)
            number = int(min(MOST, max(FEWEST, LIVES * in_flight)))
            self.requests += number
            point = self.known[counts, load] = self.runs.point(counts, load, number, min(in_flight, number / LIVES))
        return point

    def _in_flight(self, counts: tuple[int, ...], load: float) -> float:
        """Requests on the fleet at a time, by the steady state."""
        total = 0.0
        for part, count in zip(self.parts, counts, strict=True):
            if part.curve is not None:
                total += load * part.curve.at(min(load / count, part.curve.load[-1]))[2]
        return total

    def _sized(self, counts: tuple[int, ...], asked: float) -> tuple[int, ...] | None:
        """The fewest replicas around `counts` that hold what is asked: more while it does not, then fewer of each."""
        left = SIZES
        while not self._at(counts, asked).holds:
            counts = self._more(counts, asked)
            left -= 1
            if left < 0 or not within(self.question, self.parts, counts):
                return None
        for index in sorted(range(len(counts)), key=lambda i: -self.parts[i].design.layout.ranks):
            while counts[index] > 1 and left > 0:
                left -= 1
                fewer = (*counts[:index], counts[index] - 1, *counts[index + 1 :])
                if self._beyond(fewer, asked) or not self._at(fewer, asked).holds:
                    break
                counts = fewer
        return counts

    def _beyond(self, counts: tuple[int, ...], load: float) -> bool:
        """More than even the best case of so many replicas holds."""
        return any(
            load > count * (part.curve.best_load if part.curve else 0.0) * (1.0 + LUCK)
            for part, count in zip(self.parts, counts, strict=True)
        )

    def _more(self, counts: tuple[int, ...], asked: float) -> tuple[int, ...]:
        """A sixteenth more of the part that misses its limit: of prompts where the first token is late."""
        if len(counts) == 1:
            return (counts[0] + max(1, counts[0] // 16),)
        slo, point = self.question.slo, self._at(counts, asked)
        slow = slo.tpot_s is not None and point.tpot_s > slo.tpot_s
        index = 1 if slow or (slo.ttft_s is not None and point.ttft_s <= slo.ttft_s) else 0
        grown = counts[index] + max(1, counts[index] // 16)
        return (counts[0], grown) if index else (grown, counts[1])
