"""Everyone to everyone: one or two rounds, as inference engines do over peer-to-peer memory.

One-shot and two-shot are the custom all_reduce kernels of TensorRT-LLM (2023) and vLLM (csrc/custom_all_reduce.cuh):
one-shot reads all terms at once, two-shot is a direct reduce_scatter followed by a direct all_gather.
"""

from simulator.collectives.builders.setting import Plan, Setting
from simulator.collectives.schedule import Round, Transfer
from simulator.errors import ScheduleError


def _to_all(ranks: int, chunks: int) -> Round:
    return tuple(
        Transfer(i, j, c, reduce=True) for i in range(ranks) for j in range(ranks) if i != j for c in range(chunks)
    )


def _gather(ranks: int, pieces: int) -> Round:
    return tuple(
        Transfer(i, j, i * pieces + c, reduce=False)
        for i in range(ranks)
        for j in range(ranks)
        if i != j
        for c in range(pieces)
    )


def _scatter(ranks: int, pieces: int) -> Round:
    return tuple(
        Transfer(i, j, j * pieces + c, reduce=True)
        for i in range(ranks)
        for j in range(ranks)
        if i != j
        for c in range(pieces)
    )


def one_shot(setting: Setting) -> Plan:
    """One round; each rank sends the whole message to each other."""
    return Plan(setting.channels, (_to_all(setting.ranks, setting.channels),))


def two_shot(setting: Setting) -> Plan:
    """Two rounds, 2(n - 1) / n of the bytes."""
    n, pieces = setting.ranks, setting.channels
    return Plan(n * pieces, (_scatter(n, pieces), _gather(n, pieces)))


def all_gather(setting: Setting) -> Plan:
    """One round; each rank sends its shard to each other."""
    return Plan(setting.ranks * setting.channels, (_gather(setting.ranks, setting.channels),))


def reduce_scatter(setting: Setting) -> Plan:
    """One round; each rank sends each other its term of that one's shard."""
    return Plan(setting.ranks * setting.channels, (_scatter(setting.ranks, setting.channels),))


def two_ranks(setting: Setting) -> None:
    """Refuse any other number."""
    if setting.ranks != 2:
        raise ScheduleError(where="send_recv", given=f"{setting.ranks} ranks", rule="is between two ranks")


def send_recv(setting: Setting) -> Plan:
    """Rank 0 sends the message to rank 1."""
    two_ranks(setting)
    return Plan(setting.channels, (tuple(Transfer(0, 1, c, reduce=False) for c in range(setting.channels)),))
