"""Ranks and coordinates, groups, the two meshes of one block, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import layouts

from simulator.errors import LayoutError
from simulator.parallel.layout import AXES, Layout
from simulator.parallel.mesh import Mesh
from simulator.program.sharding import coordinate

BLOCK = ("dp_attention", "cp", "tp")
meshes = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(
    lambda counts: Mesh(tuple((f"axis{i}", count) for i, count in enumerate(counts)))
)
subsets = st.lists(st.sampled_from(AXES), unique=True).map(tuple)


@given(mesh=meshes)
def test_rank_and_coordinates_are_a_bijection(mesh: Mesh) -> None:
    points = [mesh.coordinates(rank) for rank in range(mesh.size)]
    assert [mesh.rank(point) for point in points] == list(range(mesh.size))
    assert len({tuple(point.items()) for point in points}) == mesh.size
    assert points == sorted(points, key=lambda p: tuple(p.values())), "row-major, slowest axis first"


@given(layout=layouts(24), axes=subsets)
def test_groups_part_the_ranks(layout: Layout, axes: tuple[str, ...]) -> None:
    groups = layout.groups(axes)
    assert sorted(rank for group in groups for rank in group) == list(range(layout.ranks))
    assert {len(group) for group in groups} == {layout.size(axes)}
    for group in groups:
        points = [layout.mesh.coordinates(rank) for rank in group]
        fixed = [{name: value for name, value in point.items() if name not in axes} for point in points]
        assert all(one == fixed[0] for one in fixed), "members differ only along the axes"
        assert points == sorted(points, key=lambda p: tuple(p.values())), "in mesh order"


@given(layout=layouts(24))
def test_expert_groups_cut_the_same_blocks(layout: Layout) -> None:
    blocks = {frozenset(group) for group in layout.groups(BLOCK)}
    assert {frozenset(group) for group in layout.groups(("ep", "moe_tp"))} == blocks
    assert layout.ep * layout.expert_tp == layout.block
    for block in blocks:
        points = {(coordinate(layout, r, ("ep",)), coordinate(layout, r, ("moe_tp",))) for r in block}
        assert points == {(e, m) for e in range(layout.ep) for m in range(layout.expert_tp)}
    for axis in ("ep", "moe_tp"):
        for group in layout.groups((axis,)):
            assert len(group) == layout.size((axis,))
            assert any(set(group) <= block for block in blocks)
            other = "moe_tp" if axis == "ep" else "ep"
            assert len({coordinate(layout, rank, (other,)) for rank in group}) == 1


@given(layout=layouts(24), axes=subsets)
def test_group_of_is_the_group_that_holds_the_rank(layout: Layout, axes: tuple[str, ...]) -> None:
    found = layout.group_of(axes)
    assert all(rank in group for rank, group in enumerate(found))
    assert set(found) == set(layout.groups(axes))


def test_ep_is_slower_than_moe_tp() -> None:
    layout = Layout(dp_attention=2, tp=4, ep=4)
    assert layout.groups(("moe_tp",)) == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert layout.groups(("ep",)) == ((0, 2, 4, 6), (1, 3, 5, 7))


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "tp of nothing": ({"tp": 0}, "tp", "at least 1"),
    "a broken number": ({"pp": 2.5}, "pp", "whole number"),
    "negative cp": ({"cp": -2}, "cp", "at least 1"),
    "ep beside the block": ({"tp": 4, "ep": 3}, "ep", "use one of 1, 2, 4"),
    "moe_tp that does not fit": ({"tp": 4, "ep": 2, "moe_tp": 4}, "moe_tp", "use moe_tp = 2"),
    "an axis left out": ({"rank_order": ("tp", "pp")}, "rank_order", "slowest first"),
    "negative copies": ({"redundant_experts": -1}, "redundant_experts", "negative"),
    "too few GPUs named": ({"tp": 4, "gpus": (0, 1)}, "gpus", "4 different GPUs"),
    "one GPU named twice": ({"tp": 2, "gpus": (5, 5)}, "gpus", "different"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_layouts_are_refused(case: str) -> None:
    given, where, told = BAD[case]
    with pytest.raises(LayoutError, match=told) as caught:
        Layout(**given)
    assert caught.value.where == where


def test_ranks_and_names_off_the_mesh_are_refused() -> None:
    mesh = Layout(tp=2, pp=3).mesh
    for wrong in (-1, 6):
        with pytest.raises(LayoutError, match="0 to 5"):
            mesh.coordinates(wrong)
    with pytest.raises(LayoutError, match="tp runs from 0 to 1"):
        mesh.rank({**mesh.coordinates(0), "tp": 2})
    with pytest.raises(LayoutError, match="axes"):
        mesh.groups(("heads",))
    with pytest.raises(LayoutError, match="only ep and moe_tp"):
        Layout(tp=2, ep=2).groups(("ep", "tp"))


def test_rank_order_moves_neighbours() -> None:
    layout = Layout(tp=2, pp=2)
    assert layout.groups(("tp",)) == ((0, 1), (2, 3))
    turned = replace(layout, rank_order=("tp", "dp", "dp_attention", "cp", "pp"))
    assert turned.groups(("tp",)) == ((0, 2), (1, 3))
