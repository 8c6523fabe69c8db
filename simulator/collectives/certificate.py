"""A proof, schedule by schedule, that a collective delivers: every contribution, exactly once."""

from collections import Counter

from simulator.collectives.apply import run
from simulator.collectives.schedule import REDUCING, Schedule
from simulator.errors import ScheduleError


def check(schedule: Schedule) -> None:
    """Raise ScheduleError unless every rank ends with each chunk it is due, each term in it once and no other.

    Runs the schedule on symbols: the term of a chunk is the multiset {(rank, chunk)}, so that a wrong chunk, a term
    added twice and a missing one all show, whatever the numbers are.
    """
    begin = [
        {chunk: Counter({(rank, chunk): 1}) for chunk in schedule.begins_with(rank)} for rank in range(schedule.ranks)
    ]
    _check_vertices(schedule)
    held = run(schedule, begin, lambda a, b: a + b)
    owners: dict[int, list[int]] = {}
    for rank in range(schedule.ranks):
        for chunk in schedule.begins_with(rank):
            owners.setdefault(chunk, []).append(rank)
    for rank in range(schedule.ranks):
        for chunk in schedule.ends_with(rank):
            due = Counter({(owner, chunk): 1 for owner in owners[chunk]})
            found = held[rank].get(chunk)
            if found != due:
                raise ScheduleError(
                    where=f"{schedule.algorithm} {schedule.kind}",
                    given=f"rank {rank} ends with {_told(found)} as chunk {chunk}",
                    rule=f"due are the terms of ranks {sorted(owners[chunk])}, each once",
                )


def _check_vertices(schedule: Schedule) -> None:
    for index, transfers in enumerate(schedule.rounds):
        for t in transfers:
            inside = 0 <= t.source < schedule.vertices and 0 <= t.destination < schedule.vertices
            if not inside or t.source == t.destination or not 0 <= t.chunk < schedule.chunks:
                raise ScheduleError(where=f"round {index}", given=str(t), rule="names no such vertices or chunk")
            if t.reduce and schedule.kind not in REDUCING:
                raise ScheduleError(where=f"round {index}", given=str(t), rule=f"{schedule.kind} adds nothing")


def _told(found: Counter[tuple[int, int]] | None) -> str:
    if found is None:
        return "nothing"
    terms = sorted(found.items())
    return ", ".join(f"{count} x chunk {chunk} of rank {rank}" for (rank, chunk), count in terms[:6])
