"""What fails and comes back: replicas, nodes, NICs, links and masters, at given times or by chance.

A fault of speed 0 is a failure. What a dead replica or master held is lost at once and noticed a heartbeat later; only
then masters stop choosing it, and its requests go to a master again, with what the client already has added to their
prompt. A request whose KV still lies parked on a prefill replica keeps it and only asks for pages elsewhere.
"""

from dataclasses import dataclass
from math import inf, isfinite, nan

import numpy as np

from simulator.engine.fleet_events import At, Kind
from simulator.engine.fleet_replica import Unit
from simulator.engine.fleet_run import FleetRun
from simulator.engine.fleet_spec import FaultRate, FaultSpec
from simulator.workload.streams import stream


@dataclass(slots=True)
class Outage:
    """One fault, as it went."""

    kind: str
    target: str
    start_s: float
    speed: float
    end_s: float = inf
    lost_requests: int = 0
    """Requests that had to start again."""
    lost_tokens: int = 0
    """KV tokens computed in vain."""
    taken_over: int = 0
    """Requests that waited at a dead master and went to others when that was noticed."""
    recovered_s: float = nan
    """When the last of those lost or taken over had its next token; not a number: there were none, or the run ended
    before."""
    pending: int = 0


@dataclass(slots=True)
class _Chance:
    rate: FaultRate
    rng: np.random.Generator


class Faults:
    """The faults of one run; hangs itself into its events."""

    def __init__(self, run: FleetRun) -> None:
        self.run = run
        self.outages: list[Outage] = []
        self._active: dict[tuple[str, int], list[int]] = {}
        """(unit, nic or master, index) -> outages that hold it."""
        self._specs: list[tuple[FaultSpec, _Chance | None]] = []
        self._ongoing: dict[int, Outage] = {}
        self.down_s = [0.0] * len(run.units)
        self.down_since = [nan] * len(run.units)
        run.handlers |= {Kind.FAULT: self._fault, Kind.REPAIR: self._repair, Kind.NOTICE: self._notice}
        run.on_token, run.on_dead = self._back, self._take_over
        for spec in run.fleet.faults:
            self._expect(spec, None)
        for rate in run.fleet.fault_rates:
            for target in rate.targets:
                self._draw(_Chance(rate, stream(run.seed, f"fault {rate.kind} {target}")), target, 0.0)

    def _expect(self, spec: FaultSpec, chance: _Chance | None) -> None:
        self._specs.append((spec, chance))
        self.run.push(spec.at_s, Kind.FAULT, len(self._specs) - 1, live=False)

    def _draw(self, chance: _Chance, target: str, after_s: float) -> None:
        """The next fault of a target that fails by chance."""
        rate = chance.rate
        at_s = after_s + float(chance.rng.exponential(rate.mtbf_s))
        repair_s = max(float(chance.rng.exponential(rate.repair_s)), 1e-9)
        self._expect(FaultSpec(rate.kind, target, at_s, repair_s, rate.speed), chance)

    # ---- begin and end ----------------------------------------------------------------------------------------

    def _fault(self, number: int, _: int) -> None:
        spec, _chance = self._specs[number]
        outage = Outage(spec.kind, spec.target, self.run.now, spec.speed)
        self.outages.append(outage)
        self._ongoing[number] = outage
        if isfinite(spec.repair_s):
            self.run.push(self.run.now + spec.repair_s, Kind.REPAIR, number)
        for key in self._held(spec):
            self._active.setdefault(key, []).append(number)
            self._apply(key, outage)

    def _repair(self, number: int, _: int) -> None:
        spec, chance = self._specs[number]
        outage = self._ongoing.pop(number)
        outage.end_s = self.run.now
        for key in self._held(spec):
            self._active[key].remove(number)
            self._apply(key, outage)
        if chance is not None:
            self._draw(chance, spec.target, self.run.now)

    def _held(self, spec: FaultSpec) -> list[tuple[str, int]]:
        """What a fault touches, as (what, index); links count as pairs of units, numbered from x units."""
        names = [unit.spec.name for unit in self.run.units]
        if spec.kind == "master":
            return [("master", [master.name for master in self.run.masters].index(spec.target))]
        if spec.kind == "node":
            return [("unit", unit.index) for unit in self.run.units if spec.target in unit.spec.nodes]
        if spec.kind == "link":
            source, target = (names.index(name) for name in spec.target.split("->"))
            return [("link", source * len(names) + target)]
        index = names.index(spec.target)
        if spec.kind != "nic":
            return [("unit", index)]
        return [("nic", index), ("unit", index)] if self.run.units[index].spec.exchange_share else [("nic", index)]

    def _left(self, spec: FaultSpec, key: tuple[str, int]) -> float:
        """The speed that a fault leaves to what it touches: slower NICs stretch the part of a step that is a replica's
        own exchange, and without any it cannot step."""
        if spec.kind != "nic" or key[0] != "unit" or not spec.speed:
            return spec.speed
        share = self.run.units[key[1]].spec.exchange_share
        return 1.0 / (1.0 - share + share / spec.speed)

    def _apply(self, key: tuple[str, int], outage: Outage) -> None:
        what, index = key
        speed = min((self._left(self._specs[number][0], key) for number in self._active[key]), default=1.0)
        if what == "unit":
            self._unit(self.run.units[index], speed, outage)
        elif what == "master":
            self._master(index, speed)
        else:
            self._line(what, index, speed)

    def _line(self, what: str, index: int, speed: float) -> None:
        """A replica's NICs, or the link between two, have `speed` left."""
        lines, units = self.run.lines, len(self.run.units)

        def alter() -> None:
            if what == "nic":
                lines.nic_speed[index] = speed
            elif speed < 1.0:
                lines.link_speed[divmod(index, units)] = speed
            else:
                lines.link_speed.pop(divmod(index, units), None)

        lines.change(self.run.now, alter)

    # ---- replicas ---------------------------------------------------------------------------------------------

    def _unit(self, unit: Unit, speed: float, outage: Outage) -> None:
        run = self.run
        if speed > 0.0:
            unit.next_speed = speed
            if not unit.up:
                unit.up = True
                self.down_s[unit.index] += run.now - self.down_since[unit.index]
                self._take_over(unit)
                run.known_units.add(unit.index)
                run.know()
                self._house()
            run.wake(unit)
        elif unit.up:
            unit.up = False
            self.down_since[unit.index] = run.now
            self._crash(unit, outage)
            run.push(run.now + run.fleet.heartbeat_s, Kind.NOTICE, unit.index, unit.version)

    def _crash(self, unit: Unit, outage: Outage) -> None:
        run = self.run
        parked = {number for batcher in unit.batchers for number in batcher.parked}
        for number, (answered, tokens) in unit.crash(run.now).items():
            at = run.at[number]
            if run.back_of[number] == unit.index and run.front_of[number] != unit.index and at != At.DECODE:
                self._lose_target(number, unit)
                continue
            if run.front_of[number] == unit.index and run.back_of[number] >= 0:
                self._leave_target(number)
            if number in parked:
                answered = 1 if run.first_token == "prefill" else 0
            elif at == At.DECODE:
                answered = max(answered, 0 if run.first_token == "decode" else 1)
            self._lose(number, unit, answered, tokens, outage)
        if any(move.source == unit.index or move.target == unit.index for move in run.lines.moving.values()):
            raise AssertionError("a transfer outlived its end")

    def _lose_target(self, number: int, unit: Unit) -> None:
        """The decode replica is gone, the prompt is not: pages are asked for again, once it is noticed."""
        run = self.run
        run.lines.forget(number, run.now)
        run.loads[unit.index] -= 1
        run.back_of[number] = -1
        granted = number in run.granted
        run.granted.discard(number)
        if not granted or run.holds_kv(number):
            run.at[number] = At.LOST
            unit.stranded.append(number)

    def _leave_target(self, number: int) -> None:
        """The prompt is gone: whatever the decode replica keeps for it is freed."""
        run = self.run
        back = run.units[run.back_of[number]]
        run.loads[back.index] -= 1
        run.back_of[number] = -1
        run.lines.forget(number, run.now)
        if number in run.granted:
            run.granted.discard(number)
            back.forget(number)
            run.wake(back)
        elif number in back.stranded:
            back.stranded.remove(number)
        else:
            back.wanting = type(back.wanting)(wish for wish in back.wanting if wish.number != number)

    def _lose(self, number: int, unit: Unit, answered: int, tokens: int, outage: Outage) -> None:
        run = self.run
        run.loads[unit.index] -= 1
        if run.at[number] in (At.LOST, At.HOMELESS):  # its KV was parked here when its decode replica went
            for other in run.units:
                if number in other.stranded:
                    other.stranded.remove(number)
            if number in run.homeless:
                run.homeless.remove(number)
        run.front_of[number] = run.back_of[number] = -1
        if answered:
            run.answered[number] = run.answered.get(number, 0) + answered
            run.silent_since.setdefault(number, run.now)
        run.retries[number] = run.retries.get(number, 0) + 1
        run.at[number] = At.LOST
        unit.stranded.append(number)
        outage.lost_requests += 1
        outage.lost_tokens += tokens
        outage.pending += 1
        earlier = run.recovering.get(number)
        if earlier is not None:
            self.outages[earlier].pending -= 1
        run.recovering[number] = self.outages.index(outage)

    def _notice(self, index: int, version: int) -> None:
        if version >= 0:
            unit = self.run.units[index]
            if not unit.up and unit.version == version:
                self._take_over(unit)
        else:
            self._notice_master(-version - 1, index)

    def _take_over(self, unit: Unit) -> None:
        """Masters learn that a replica died: its requests go on elsewhere."""
        run = self.run
        run.known_units.discard(unit.index)
        run.know()
        stranded, unit.stranded = unit.stranded, []
        for number in stranded:
            front, back = run.front_of[number], run.back_of[number]
            if front == unit.index:  # it came when the replica was dead
                run.loads[front] -= 1
                if back >= 0:
                    self._leave_target(number)
            elif back == unit.index:
                run.loads[back] -= 1
                run.back_of[number] = -1
            if front < 0 or front == unit.index:
                run.front_of[number] = -1
                run.to_master(number)
            else:
                run.want(number)

    def _house(self) -> None:
        """A replica is back: requests that found none try again."""
        run = self.run
        homeless, run.homeless = run.homeless, []
        for number in homeless:
            front = run.front_of[number]
            if front >= 0 and run.holds_kv(number):
                run.want(number)
            else:
                if front >= 0:
                    run.loads[front] -= 1
                    run.front_of[number] = -1
                run.route(number, run.master_of[number])

    def _back(self, number: int) -> None:
        """A lost request has its next token."""
        outage = self.outages[self.run.recovering.pop(number)]
        outage.pending -= 1
        if not outage.pending:
            outage.recovered_s = self.run.now

    # ---- masters ----------------------------------------------------------------------------------------------

    def _master(self, index: int, speed: float) -> None:
        run = self.run
        master = run.masters[index]
        if speed > 0.0:
            run.master_speed[index] = speed
            if not master.up:
                master.up = True
                run.known_masters = tuple(sorted({*run.known_masters, index}))
                if master.current >= 0:
                    master.queue.appendleft(master.done())
                    master.dispatched -= 1
                waiting, run.unmastered = run.unmastered, []
                for number in waiting:
                    run.to_master(number)
                run.attend(index)
        elif master.up:
            master.up = False
            run.master_version[index] += 1
            run.push(run.now + run.fleet.heartbeat_s, Kind.NOTICE, run.master_version[index], -index - 1)

    def _notice_master(self, index: int, version: int) -> None:
        run = self.run
        master = run.masters[index]
        if master.up or version != run.master_version[index]:
            return
        run.known_masters = tuple(other for other in run.known_masters if other != index)
        fault = self._active[("master", index)][-1]
        outage = self._ongoing[fault]
        for number in master.take_all():
            outage.taken_over += 1
            if number not in run.recovering:
                outage.pending += 1
                run.recovering[number] = self.outages.index(outage)
            run.to_master(number)
