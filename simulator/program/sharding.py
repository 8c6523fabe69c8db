"""Which part of each weight a rank holds, by the names of the weight's axes."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.model.architecture import MixtureOfExperts
from simulator.model.parameters import Axis, Parameter
from simulator.parallel.layout import Layout

AXIS_RULES = {
    "heads": "tp",
    "kv_heads": "tp",
    "intermediate": "tp",
    "vocab": "tp",
    "experts": "ep",
    "expert_intermediate": "moe_tp",
}
"""Tensor axis -> mesh axis that cuts it. Axes not named here are whole on every rank."""


def uses_all_to_all(layout: Layout) -> bool:
    """Whether MoE layers send tokens to their experts, or gather all tokens and compute local experts.

    "auto" is what engines do: ranks that hold the same tokens (plain tensor parallelism) need no
    dispatch; with data-parallel attention or context parallelism and ep > 1 tokens travel.
    """
    if layout.moe_dispatch == "auto":
        return layout.ep > 1 and (layout.dp_attention > 1 or layout.cp > 1)
    return layout.moe_dispatch == "all_to_all" and layout.ep > 1


def mesh_axis(parameter: Parameter, axis: Axis, layout: Layout) -> str | None:
    """The mesh axis that cuts this axis of this parameter, if one does."""
    if parameter.kind == "shared_expert" and uses_all_to_all(layout):
        return None  # every rank computes the shared expert of the tokens it routes
    name = AXIS_RULES.get(axis.name)
    return name if name and layout.size((name,)) > 1 else None


@lru_cache(maxsize=65536)
def coordinate(layout: Layout, rank: int, axes: tuple[str, ...]) -> int:
    """Index of a rank within its group over `axes`."""
    return layout.group_of(axes)[rank].index(rank)


@dataclass(frozen=True, slots=True)
class ExpertPlacement:
    """physical[i] is the logical expert in physical slot i; slots are dealt to ep ranks in order."""

    physical: tuple[int, ...]
    ep: int

    def local(self, ep_index: int) -> tuple[int, ...]:
        """Logical experts on one rank of the ep group, in slot order."""
        per_rank = len(self.physical) // self.ep
        return self.physical[ep_index * per_rank : (ep_index + 1) * per_rank]

    def replicas(self, experts: int) -> NDArray[np.int64]:
        """Number of slots of each logical expert."""
        return np.bincount(np.array(self.physical), minlength=experts)


@lru_cache(maxsize=256)
def expert_placement(experts: int, layout: Layout) -> ExpertPlacement:
    """Logical experts in order, then copies of the first `redundant_experts` ones.

    Which experts are busiest is not known before traffic is; popularity in this project's skewed
    loads falls with the expert's index, so the first are the ones worth copying.
    """
    copies = [i % experts for i in range(layout.redundant_experts)]
    slots = list(range(experts)) + copies
    if not copies:
        return ExpertPlacement(tuple(slots), layout.ep)
    # Deal slots to ranks heaviest first so that copies of one expert land on different ranks.
    per_rank = len(slots) // layout.ep
    ranks: list[list[int]] = [[] for _ in range(layout.ep)]
    for slot in sorted(slots):
        target = min(
            (r for r in range(layout.ep) if len(ranks[r]) < per_rank),
            key=lambda r: (slot in ranks[r], len(ranks[r]), r),
        )
        ranks[target].append(slot)
    return ExpertPlacement(tuple(slot for rank in ranks for slot in rank), layout.ep)


def _axis_index(axis: Axis, layout: Layout, rank: int, mesh_name: str) -> NDArray[np.int64]:
    parts, mine = layout.size((mesh_name,)), coordinate(layout, rank, (mesh_name,))
    if axis.name == "experts":
        return np.array(expert_placement(axis.count, layout).local(mine))
    if axis.count < parts:  # more ranks than KV heads: neighbours hold the same head
        units = np.array([mine * axis.count // parts])
    else:
        units = np.array_split(np.arange(axis.count), parts)[mine]
    return np.asarray((units[:, None] * axis.width + np.arange(axis.width)).reshape(-1), dtype=np.int64)


def local_index(parameter: Parameter, layout: Layout, rank: int) -> tuple[NDArray[np.int64] | slice, ...]:
    """For each axis of the parameter, the indices this rank holds."""
    found: list[NDArray[np.int64] | slice] = []
    for axis in parameter.axes:
        name = mesh_axis(parameter, axis, layout)
        found.append(slice(None) if name is None else _axis_index(axis, layout, rank, name))
    return tuple(found)


def local_size(parameter: Parameter, layout: Layout) -> int:
    """Elements of the parameter on the fullest rank."""
    total = 1
    for axis in parameter.axes:
        name = mesh_axis(parameter, axis, layout)
        if name is None:
            total *= axis.size
            continue
        count = axis.count + layout.redundant_experts if axis.name == "experts" else axis.count
        total *= -(-count // layout.size((name,))) * axis.width
    return total


def local_kv_heads(kv_heads: int, tp: int) -> int:
    """KV heads on one rank; at least one, so that they are replicated where tp exceeds them."""
    return max(1, kv_heads // tp)


def local_experts(moe: MixtureOfExperts, layout: Layout) -> int:
    """Physical experts on one rank."""
    return (moe.experts + layout.redundant_experts) // layout.ep
