"""What a builder is given, and the few moves that builders share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simulator.collectives.schedule import Nodes, Round, Transfer
from simulator.errors import ScheduleError


@dataclass(frozen=True, slots=True)
class Setting:
    """A group of `ranks` members spread over `nodes`; `channels` rings or trees, `pipeline` pieces in each."""

    ranks: int
    nodes: Nodes
    channels: int
    pipeline: int

    def equal_nodes(self, algorithm: str) -> tuple[int, int]:
        """(nodes, ranks in each), refused where nodes differ in size or there is only one."""
        sizes = {len(node) for node in self.nodes}
        if len(self.nodes) < 2:
            raise ScheduleError(
                where=algorithm,
                given="one node",
                rule="needs ranks on two nodes or more",
                way_out="use ring, or give the nodes",
            )
        if len(sizes) > 1:
            raise ScheduleError(
                where=algorithm,
                given=f"nodes of {', '.join(str(len(node)) for node in self.nodes)} ranks",
                rule="needs the same number of ranks on each node",
                way_out="use ring or tree (pairwise for all_to_all)",
            )
        return len(self.nodes), len(self.nodes[0])


@dataclass(frozen=True, slots=True)
class Plan:
    """What a builder gives back: chunks in all, the rounds, and the in-switch reducers it uses."""

    chunks: int
    rounds: tuple[Round, ...]
    switches: int = 0


def merged(parts: Iterable[Sequence[Round]]) -> tuple[Round, ...]:
    """Sequences of rounds that run side by side, each from the first round on."""
    parts = list(parts)
    length = max((len(part) for part in parts), default=0)
    return tuple(tuple(t for part in parts if r < len(part) for t in part[r]) for r in range(length))


def staggered(parts: Sequence[Sequence[Round]]) -> tuple[Round, ...]:
    """A pipeline: part p begins p rounds after the first."""
    return merged([*([()] * p), *part] for p, part in enumerate(parts))


def reversed_as_reduce(rounds: Sequence[Round]) -> tuple[Round, ...]:
    """A gather run backwards is a reduction: each chunk's broadcast tree becomes its reduction tree."""
    return tuple(
        tuple(Transfer(t.destination, t.source, t.chunk, reduce=True) for t in transfers)
        for transfers in reversed(rounds)
    )
