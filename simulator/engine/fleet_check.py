"""What holds in a fleet after every event, each with an id; and what is refused before the first."""

from collections import Counter
from collections.abc import Callable

from simulator.engine.fleet_events import At
from simulator.engine.fleet_replica import Unit
from simulator.engine.fleet_run import FleetRun
from simulator.errors import StalledError, WorkloadError
from simulator.serving.invariants import check_invariants


def _holders(run: FleetRun) -> Counter[int]:
    """How often each request that is in the fleet is held by what could finish it."""
    count: Counter[int] = Counter()
    for master in run.masters:
        count.update(([master.current] if master.current >= 0 else []) + list(master.queue))
    count.update(run.homeless)
    count.update(run.unmastered)
    for unit in run.units:
        count.update(unit.stranded)
        count.update(attempt.number for attempt in unit.inbox)
        for batcher in unit.batchers:
            for held in (*batcher.unseen, *batcher.waiting, *batcher.running.values()):
                count[held.id] += 1
            for number in batcher.incoming:
                count[number] += run.at[number] in (At.MOVING, At.DECODE)
        count.update(wish.number for wish in unit.wanting)
    return count


def _each_once(run: FleetRun) -> bool:
    held = _holders(run)
    inside = [n for n in range(run.count) if run.at[n] not in (At.NOWHERE, At.FINISHED, At.REJECTED)]
    return len(held) == len(inside) and all(held[number] == 1 for number in inside)


def _moves_hold_pages(run: FleetRun) -> bool:
    for number, move in run.lines.moving.items():
        source, target = run.units[move.source], run.units[move.target]
        if number not in source.batchers[move.source_rank].parked:
            return False
        if number not in target.batchers[move.target_rank].incoming:
            return False
    return True


def _no_decode_before_move(run: FleetRun) -> bool:
    """A decode replica runs only requests whose KV has come, or whose prompt it computes itself."""
    for unit in run.units:
        if unit.spec.role == "decode":
            for batcher in unit.batchers:
                for held in batcher.running.values():
                    moved = run.moved[held.id]
                    if run.front_of[held.id] != unit.index and not moved <= run.now:
                        return False
    return True


def _dead_hold_nothing(unit: Unit) -> bool:
    return unit.up or not (unit.busy or unit.inbox or unit.wanting or any(b.in_flight for b in unit.batchers))


FLEET_INVARIANTS: dict[str, tuple[str, Callable[[FleetRun], bool]]] = {
    "F1": ("a request that came is finished, rejected, or held in exactly one place", _each_once),
    "F2": (
        "nothing is answered twice: as many requests are over as have finished or were rejected",
        lambda run: run.done == sum(at in (At.FINISHED, At.REJECTED) for at in run.at),
    ),
    "F3": ("KV on its way holds pages at both ends", _moves_hold_pages),
    "F4": ("nobody decodes before their KV has come", _no_decode_before_move),
    "F5": ("a dead replica runs and holds nothing", lambda run: all(_dead_hold_nothing(unit) for unit in run.units)),
    "F6": ("no step and no transfer ends in the past", lambda run: all(
        not unit.busy or unit.end_s >= run.now for unit in run.units
    ) and all(move.stuck or move.end_s >= run.now for move in run.lines.moving.values())),
    "F7": ("loads are never negative, and zero when all is over", lambda run: min(run.loads) >= 0 and (
        run.done < run.count or not any(run.loads)
    )),
    "F8": ("no line is asked for more KV than it carries", lambda run: not run.lines.overfull()),
}  # fmt: skip


def check_fleet(run: FleetRun) -> None:
    """Raise StalledError naming the first invariant that does not hold."""
    for key, (text, holds) in FLEET_INVARIANTS.items():
        if not holds(run):
            raise StalledError(where=f"invariant {key} at {run.now:g} s", given=f"{run.done} requests over", rule=text)
    for unit in run.units:
        for batcher in unit.batchers:
            check_invariants(batcher)


def reject_unservable(run: FleetRun) -> None:
    """Raise WorkloadError for the first request whose KV no replica of some needed role could hold."""
    by_role: dict[bool, list[Unit]] = {}
    for unit in run.units:
        by_role.setdefault(unit.spec.role == "prefill", []).append(unit)
    for prefill, units in by_role.items():
        most = min(unit.spec.kv_blocks * unit.spec.policy.block_tokens for unit in units)
        tokens = run.requests.input_tokens + (0 if prefill else run.requests.output_tokens - 1)
        worst = int(tokens.argmax())
        if tokens[worst] > most:
            raise WorkloadError(
                where=f"request {worst}", given=f"{tokens[worst]} tokens of KV",
                rule=f"a {units[0].spec.role} replica holds {most}",
                way_out="use more GPUs, a smaller KV type, or shorter requests",
            )  # fmt: skip
