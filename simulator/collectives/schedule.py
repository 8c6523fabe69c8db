"""A collective as data: rounds of transfers between vertices, each naming one chunk.

The same schedule moves real arrays (`apply`), is counted (`volume`, `closed_form`) and is run as flows
over simulated links, so that a slip in a chunk index cannot hide behind a right time.

What the words mean
-------------------
*Vertices* 0..ranks-1 are the members of the group, by their place in it; ranks..vertices-1 are reducers
inside switches (NVLink SHARP), which begin with nothing.

*Rounds*: within a round every read sees the value from before the round. Where several terms meet in one
place, what is held and what arrives are added in the order of their vertex numbers, so that every rank of a
one-shot all_reduce gets the same bits.

*Chunks*: chunk c is piece `c % pieces` of shard `c // pieces`. Shards may differ in size (a shard's size is
the executor's business, and so is how it is cut into pieces: `numpy.array_split` in `apply`).

    kind             shards   a rank begins with          a rank ends with
    all_reduce       1        its term of every chunk     the sum of every chunk
    reduce_scatter   n        its term of every chunk     rank i: the sum of shard i
    all_gather       n        rank i: shard i             every shard
    all_to_all       n * n    rank i: shards i*n + j      rank j: shards i*n + j
    broadcast        1        rank 0: every chunk         every chunk
    send_recv        1        rank 0: every chunk         rank 1: every chunk

A shard of an all_to_all is one piece, and its payload may be any object.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from simulator.errors import ScheduleError

Kind = Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "send_recv"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REDUCING: tuple[Kind, ...] = ("all_reduce", "reduce_scatter")


class Transfer(NamedTuple):
    """One chunk from one vertex to another; added to what the destination holds, or put in its place."""

    source: int
    destination: int
    chunk: int
    reduce: bool


Round = tuple[Transfer, ...]
Nodes = tuple[tuple[int, ...], ...]
"""The members of the group, by place in it, node by node."""


class Steps(NamedTuple):
    """What one vertex does in one round."""

    sends: Round
    receives: Round


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Rounds of transfers that carry out one collective over `ranks` members.

    Compared and hashed by identity (`build` keeps what it made): hashing thousands of transfers at each look-up of
    `per_rank` would cost more than the rest of the look-up.
    """

    kind: Kind
    algorithm: str
    ranks: int
    chunks: int
    rounds: tuple[Round, ...]
    switches: int = 0

    def __post_init__(self) -> None:
        if self.chunks < 1 or self.chunks % self.shards:
            raise ScheduleError(
                where=f"{self.algorithm} {self.kind}",
                given=f"{self.chunks} chunks",
                rule=f"must be a multiple of its {self.shards} shards",
            )

    @property
    def vertices(self) -> int:
        """Ranks and in-switch reducers."""
        return self.ranks + self.switches

    @property
    def shards(self) -> int:
        """Parts of the message that may differ in size."""
        return shards_of(self.kind, self.ranks)

    @property
    def pieces(self) -> int:
        """Chunks that each shard is cut into."""
        return self.chunks // self.shards

    def begins_with(self, rank: int) -> range:
        """Chunks that `rank` holds before the first round."""
        return held(self.kind, self.ranks, self.pieces, rank, before=True)

    def ends_with(self, rank: int) -> range:
        """Chunks that `rank` must hold after the last round."""
        return held(self.kind, self.ranks, self.pieces, rank, before=False)


def shards_of(kind: Kind, ranks: int) -> int:
    """Parts of the message of one collective that may differ in size."""
    match kind:
        case "all_gather" | "reduce_scatter":
            return ranks
        case "all_to_all":
            return ranks * ranks
        case _:
            return 1


def held(kind: Kind, ranks: int, pieces: int, rank: int, *, before: bool) -> range:
    """Chunks held by `rank` before or after a collective (the table in the module's docstring)."""
    everything = range(shards_of(kind, ranks) * pieces)
    own = range(rank * pieces, (rank + 1) * pieces)
    match kind:
        case "all_reduce":
            return everything
        case "reduce_scatter":
            return everything if before else own
        case "all_gather":
            return own if before else everything
        case "all_to_all":
            return range(rank * ranks, (rank + 1) * ranks) if before else range(rank, ranks * ranks, ranks)
        case "broadcast":
            return everything if not before or rank == 0 else range(0)
        case "send_recv":
            return everything if rank == (0 if before else min(1, ranks - 1)) else range(0)


@lru_cache(maxsize=128)
def per_rank(schedule: Schedule) -> tuple[tuple[Steps, ...], ...]:
    """For each vertex and each round, what it sends and what it receives.

    Indexed [vertex][round]. Receives are in the order in which they are added: by source.
    """
    table: list[tuple[Steps, ...]] = []
    sends: list[list[list[Transfer]]] = [[[] for _ in schedule.rounds] for _ in range(schedule.vertices)]
    receives: list[list[list[Transfer]]] = [[[] for _ in schedule.rounds] for _ in range(schedule.vertices)]
    for index, transfers in enumerate(schedule.rounds):
        for transfer in sorted(transfers):
            sends[transfer.source][index].append(transfer)
            receives[transfer.destination][index].append(transfer)
    for out, into in zip(sends, receives, strict=True):
        table.append(tuple(Steps(tuple(s), tuple(r)) for s, r in zip(out, into, strict=True)))
    return tuple(table)
