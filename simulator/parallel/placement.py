"""Where a tensor's parts are: sharded along one of its named axes, replicated, or owed a sum.

The vocabulary is PyTorch DTensor's (Shard, Replicate, Partial), with named tensor axes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Replicate:
    """Every rank along the mesh axis holds the whole."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Rank i along the mesh axis holds the i-th part of the tensor's axis `axis`."""

    axis: str


@dataclass(frozen=True, slots=True)
class Partial:
    """Every rank along the mesh axis holds a term; the tensor is their sum, still owed."""

    op: str = "sum"


Placement = Replicate | Shard | Partial
