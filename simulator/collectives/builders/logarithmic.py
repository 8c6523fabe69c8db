"""ceil(log2 n) rounds for all_gather and reduce_scatter at no extra bytes, for any n.

Bruck et al., "Efficient algorithms for all-to-all communications in multiport message-passing systems", IEEE TPDS 8
(1997) 1143-1156, doi:10.1109/71.642949. NCCL's PAT (2.23, 2024) moves the same bytes in the same number of rounds.
Recursive halving and doubling (Rabenseifner 2004) is this for powers of two, up to the names of the partners.
"""

from simulator.collectives.builders.setting import Plan, Setting, reversed_as_reduce
from simulator.collectives.schedule import Round, Transfer


def _gather(n: int, pieces: int) -> tuple[Round, ...]:
    rounds = []
    width = 1
    while width < n:
        rounds.append(
            tuple(
                Transfer(i, (i - width) % n, (i + j) % n * pieces + p, reduce=False)
                for i in range(n)
                for j in range(min(width, n - width))
                for p in range(pieces)
            )
        )
        width *= 2
    return tuple(rounds)


def all_gather(setting: Setting) -> Plan:
    """Round r: each rank passes on the 2**r shards it holds (fewer in the last round) to the rank 2**r below."""
    return Plan(setting.ranks * setting.channels, _gather(setting.ranks, setting.channels))


def reduce_scatter(setting: Setting) -> Plan:
    """The all_gather run backwards."""
    return Plan(setting.ranks * setting.channels, reversed_as_reduce(_gather(setting.ranks, setting.channels)))


def all_reduce(setting: Setting) -> Plan:
    """Halving, then doubling: 2 ceil(log2 n) rounds, 2(n - 1) / n of the bytes."""
    gather = _gather(setting.ranks, setting.channels)
    return Plan(setting.ranks * setting.channels, (*reversed_as_reduce(gather), *gather))
