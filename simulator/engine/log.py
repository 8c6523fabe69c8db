"""The event log: plain tuples while the simulation runs."""

from typing import NamedTuple


class OpRecord(NamedTuple):
    """One op on one rank."""

    step: int
    phase: str
    pool: str
    rank: int
    gpu: int
    stream: str
    layer: int
    micro_batch: int
    op: str
    kind: str
    start_s: float
    end_s: float
    bytes: float
    provenance: str
    bound: str


class StepRecord(NamedTuple):
    """One step of one pool."""

    step: int
    phase: str
    pool: str
    start_s: float
    end_s: float
    tokens: int


class HandoverRecord(NamedTuple):
    """One KV transfer between two ranks of different pools."""

    source_rank: int
    destination_rank: int
    layers: int
    tokens: int
    bytes: float
    miniature_bytes: float
    duplicate_bytes: float
    start_s: float
    end_s: float
