"""A layout: how many ranks along each kind of parallelism, in which order, on which GPUs."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from simulator.errors import LayoutError
from simulator.parallel.mesh import Mesh

AXES = ("dp", "pp", "dp_attention", "cp", "tp")
Dispatch = Literal["auto", "all_to_all", "all_gather"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of the mesh axes of one pool.

    `dp` counts whole replicas. Inside a replica, each pipeline stage is a block of
    dp_attention x cp x tp ranks; MoE layers see the same block as ep x moe_tp (ep slower), so
    ep * moe_tp == dp_attention * cp * tp. `rank_order` is slowest first.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    cp: int = 1
    dp_attention: int = 1
    ep: int = 1
    moe_tp: int = 0
    """Tensor parallel inside an expert; 0: what ep leaves over."""
    sequence_parallel: bool = False
    micro_batches: int = 1
    moe_dispatch: Dispatch = "auto"
    redundant_experts: int = 0
    """Copies of busy experts, so that experts + redundant_experts is a multiple of ep (DeepSeek's EPLB)."""
    rank_order: tuple[str, ...] = AXES
    gpus: tuple[int, ...] = ()
    """GPU index of each rank in the cluster; empty: rank i on GPU i (of the pool's first GPU on)."""

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "dp", "cp", "dp_attention", "ep", "micro_batches"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise LayoutError(where=name, given=f"{value}", rule="must be a whole number of at least 1")
        if sorted(self.rank_order) != sorted(AXES):
            raise LayoutError(
                where="rank_order",
                given=str(list(self.rank_order)),
                rule=f"must name each of {', '.join(AXES)} once, slowest first",
            )
        if self.redundant_experts < 0:
            raise LayoutError(where="redundant_experts", given=str(self.redundant_experts), rule="must not be negative")
        if self.block % self.ep:
            raise LayoutError(
                where="ep",
                given=str(self.ep),
                rule=f"must divide dp_attention * cp * tp = {self.block}",
                way_out=f"use one of {', '.join(str(d) for d in range(1, self.block + 1) if self.block % d == 0)}",
            )
        if self.moe_tp not in (0, self.block // self.ep):
            raise LayoutError(
                where="moe_tp",
                given=str(self.moe_tp),
                rule=f"ep * moe_tp must equal dp_attention * cp * tp = {self.block}",
                way_out=f"with ep = {self.ep} use moe_tp = {self.block // self.ep}",
            )
        if self.gpus and (len(self.gpus) != self.ranks or len(set(self.gpus)) != len(self.gpus)):
            raise LayoutError(
                where="gpus",
                given=f"{len(self.gpus)} entries",
                rule=f"must name {self.ranks} different GPUs, one a rank",
            )

    @property
    def block(self) -> int:
        """Ranks of one pipeline stage of one replica."""
        return self.dp_attention * self.cp * self.tp

    @property
    def expert_tp(self) -> int:
        """Tensor parallel inside an expert, with the default filled in."""
        return self.block // self.ep

    @property
    def ranks(self) -> int:
        """All ranks."""
        return self.dp * self.pp * self.block

    @property
    def mesh(self) -> Mesh:
        """The attention mesh, in rank order."""
        return Mesh(tuple((name, int(getattr(self, name))) for name in self.rank_order))

    def size(self, axes: tuple[str, ...]) -> int:
        """Ranks in a group over these axes ("ep" and "moe_tp" included)."""
        sizes = {"ep": self.ep, "moe_tp": self.expert_tp}
        total = 1
        for axis in axes:
            total *= sizes.get(axis) or int(getattr(self, axis))
        return total

    def groups(self, axes: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        """Groups of ranks that differ only along `axes`; ("ep",) and ("moe_tp",) cut the MoE mesh."""
        return _layout_groups(self, axes)

    def group_of(self, axes: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        """For each rank, the group over `axes` it belongs to."""
        return _group_of(self, axes)


def _block_order(layout: Layout) -> tuple[str, ...]:
    return tuple(name for name in layout.rank_order if name in ("dp_attention", "cp", "tp"))


@lru_cache(maxsize=1024)
def _layout_groups(layout: Layout, axes: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    if not set(axes) & {"ep", "moe_tp"}:
        return layout.mesh.groups(axes)
    blocks = layout.mesh.groups(_block_order(layout))
    inner = layout.expert_tp
    if set(axes) == {"ep", "moe_tp"}:
        return blocks
    if axes == ("ep",):
        return tuple(block[i::inner] for block in blocks for i in range(inner))
    if axes == ("moe_tp",):
        return tuple(block[e * inner : (e + 1) * inner] for block in blocks for e in range(layout.ep))
    raise LayoutError(given=str(axes), rule="groups over MoE axes name only ep and moe_tp")


@lru_cache(maxsize=1024)
def _group_of(layout: Layout, axes: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    found: list[tuple[int, ...]] = [()] * layout.ranks
    for group in layout.groups(axes):
        for rank in group:
            found[rank] = group
    return tuple(found)
