"""How a master chooses a replica: policies as functions of what it sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.errors import ScenarioError


@dataclass(slots=True)
class Sight:
    """What one master knows when it chooses among replicas."""

    loads: Sequence[int]
    """Requests in flight on each replica, as this master last saw them, plus what it has sent since."""
    turn: int
    """Choices it has made before."""
    rng: np.random.Generator
    session: int
    """Equal for requests of one conversation."""
    cached: Callable[[int], int]
    """Leading prefix blocks of this request that it has sent to a replica before."""
    blocks: int
    """Prefix blocks of this request."""


Choose = Callable[[Sequence[int], Sight], int]


def _round_robin(replicas: Sequence[int], sight: Sight) -> int:
    return replicas[sight.turn % len(replicas)]


def _least_loaded(replicas: Sequence[int], sight: Sight) -> int:
    loads = sight.loads
    return min(replicas, key=lambda replica: loads[replica])


def _power_of_two(replicas: Sequence[int], sight: Sight) -> int:
    """Two at random, the less loaded of them (Mitzenmacher, IEEE TPDS 12(10), 2001)."""
    if len(replicas) == 1:
        return replicas[0]
    first = int(sight.rng.integers(len(replicas)))
    second = int(sight.rng.integers(len(replicas) - 1))
    pair = replicas[first], replicas[second + (second >= first)]
    return min(pair, key=lambda replica: sight.loads[replica])


def _prefix_aware(replicas: Sequence[int], sight: Sight) -> int:
    """Where the most of the prompt is cached, unless that replica has far more to do.

    The rule of SGLang's router (sgl-router, cache_aware, 2025): by cache where at least half of the prompt matches and
    loads are balanced (no replica above 1.5 x the least and 32 more), else the least loaded.
    """
    loads = [sight.loads[replica] for replica in replicas]
    balanced = max(loads) - min(loads) <= 32 or max(loads) <= 1.5 * min(loads)
    if sight.blocks and balanced:
        best = max(replicas, key=lambda replica: (sight.cached(replica), -sight.loads[replica]))
        if 2 * sight.cached(best) >= sight.blocks:
            return best
    return _least_loaded(replicas, sight)


def _session_affinity(replicas: Sequence[int], sight: Sight) -> int:
    """Rendezvous hashing (Thaler and Ravishankar 1998): a session stays where it is unless its replica goes."""
    return max(replicas, key=lambda replica: _mixed(_mixed(sight.session) ^ replica))


def _mixed(value: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014); a linear code such as CRC would order alike sessions
    alike."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


POLICIES: dict[str, Choose] = {
    "round_robin": _round_robin,
    "least_loaded": _least_loaded,
    "power_of_two": _power_of_two,
    "prefix_aware": _prefix_aware,
    "session_affinity": _session_affinity,
}


def find_router(name: str) -> Choose:
    """The policy of this name. Raises ScenarioError for another."""
    found = POLICIES.get(name)
    if found is None:
        raise ScenarioError(where="master policy", given=repr(name), rule=f"is none of {', '.join(POLICIES)}")
    return found
