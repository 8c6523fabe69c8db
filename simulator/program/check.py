"""Placements followed through a program: who owes a sum, who holds which part, before any number is computed.

A tensor's state names, per mesh axis, whether it is cut there (Shard) or owes a sum there (Partial); axes
not named are replicated. An op that cannot take a partial sum refuses, and says which collective is missing.
"""

from dataclasses import dataclass, replace

from simulator.errors import PlacementError
from simulator.parallel.layout import Layout
from simulator.parallel.placement import Partial, Placement, Shard
from simulator.program import ops
from simulator.program.build import Program, Segment

State = dict[str, Placement]
"""Mesh axis -> placement along it."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """Where in the program we are, for the error message."""

    layout: Layout
    segment: Segment
    op: ops.Op

    @property
    def where(self) -> str:
        place = f"layer {self.segment.layer}" if self.segment.layer >= 0 else self.segment.place
        return f"{place}, {self.op.name!r}"


def check(program: Program, layout: Layout) -> None:
    """Raises PlacementError at the first op whose inputs are not placed as it needs them."""
    states: dict[tuple[int, str], State] = {}
    for segment, op in program.ops():
        scene = _Scene(layout, segment, op)
        inputs = []
        for name in op.inputs:
            if name == "ids":
                inputs.append(State())
                continue
            if (segment.micro_batch, name) not in states:
                raise PlacementError(where=scene.where, given=repr(name), rule="is read before anything wrote it")
            inputs.append(states[segment.micro_batch, name])
        for name, state in zip(op.outputs, _outputs(scene, inputs), strict=True):
            states[segment.micro_batch, name] = state


def _outputs(scene: _Scene, inputs: list[State]) -> list[State]:
    op = scene.op
    match op:
        case ops.Collective():
            return [_collective(scene, op, inputs[0])]
        case ops.Receive():
            return [_residual(scene.layout)]
        case ops.Send():
            _refuse_partial(scene, inputs[0], op.inputs[0])
            return []
        case ops.Embed(over=over):
            return [{axis: Partial() for axis in over}]
        case ops.Add():
            return [_same(scene, inputs)]
        case ops.Experts(owed=owed):
            return [_plus(_complete(scene, inputs)[0], owed)]
        case ops.CombineUnpack(owed=owed):
            return [_plus(inputs[2], owed)]
        case ops.Linear():
            return _linear(scene, op, inputs[0])
        case _:
            return _local(scene, op, inputs)


def _local(scene: _Scene, op: ops.Op, inputs: list[State]) -> list[State]:
    match op:
        case ops.SumOfSquares() if scene.layout.tp > 1:
            return [{"tp": Partial()}]
        case ops.LastTokens(owed=owed):
            return [_plus(_complete(scene, inputs)[0], owed)]
        case ops.SliceTokens(over=over):
            return [{**_complete(scene, inputs)[0], **{axis: Shard("tokens") for axis in over}}]
        case ops.AttendLatent() | ops.AttendLinear() | ops.Attend():
            _complete(scene, inputs)
            heads: State = {"tp": Shard("features")} if scene.layout.tp > 1 else {}
            return [dict(heads) for _ in op.outputs]
        case ops.DispatchPack() | ops.DispatchUnpack() | ops.CombinePack():
            _free_of_partials(scene, inputs)
            return [{} for _ in op.outputs]
        case ops.Gate():  # a factor that every rank holds whole may multiply a term of a sum
            _refuse_partial(scene, inputs[1], op.inputs[1])
            return [dict(inputs[0])]
        case ops.Norm() if len(inputs) == 2:
            _complete(scene, inputs)
            total = _same(scene, inputs)
            return [total, total]
        case _:
            states = _complete(scene, inputs)
            return [dict(states[0]) for _ in op.outputs]


def _residual(layout: Layout) -> State:
    return {"tp": Shard("tokens")} if layout.sequence_parallel and layout.tp > 1 else {}


def _refuse_partial(scene: _Scene, state: State, name: str) -> None:
    owed = tuple(axis for axis, placement in state.items() if isinstance(placement, Partial))
    if owed:
        axes = ", ".join(owed)
        raise PlacementError(
            where=scene.where,
            given=f"{name!r}, a sum over {axes} still owed",
            rule="this op cannot take a partial sum",
            way_out=f"an all_reduce or reduce_scatter over {axes} is missing before it",
        )


def _free_of_partials(scene: _Scene, inputs: list[State]) -> None:
    for name, state in zip(scene.op.inputs, inputs, strict=True):
        if name not in ("received", "parcels") and not isinstance(scene.op, ops.CombinePack):
            _refuse_partial(scene, state, name)


def _complete(scene: _Scene, inputs: list[State]) -> list[State]:
    for name, state in zip(scene.op.inputs, inputs, strict=True):
        _refuse_partial(scene, state, name)
    return inputs


def _plus(state: State, owed: tuple[str, ...]) -> State:
    kept = {axis: placement for axis, placement in state.items() if axis not in owed}
    return {**kept, **{axis: Partial() for axis in owed}}


def _same(scene: _Scene, inputs: list[State]) -> State:
    for name, state in zip(scene.op.inputs[1:], inputs[1:], strict=True):
        if state != inputs[0]:
            raise PlacementError(
                where=scene.where,
                given=f"{scene.op.inputs[0]!r} placed {_told(inputs[0])}, {name!r} placed {_told(state)}",
                rule="only tensors placed alike can be added",
            )
    return dict(inputs[0])


def _told(state: State) -> str:
    told = []
    for axis, placement in sorted(state.items()):
        what = f"Shard({placement.axis!r})" if isinstance(placement, Shard) else type(placement).__name__
        told.append(f"{axis}: {what}")
    return "{" + ", ".join(told) + "}" if told else "whole on every rank"


def _linear(scene: _Scene, op: ops.Linear, state: State) -> list[State]:
    _refuse_partial(scene, state, op.inputs[0])
    if op.parallel == "row":
        if state.get("tp") != Shard("features"):
            raise PlacementError(
                where=scene.where,
                given=f"{op.inputs[0]!r} placed {_told(state)}",
                rule="a row-parallel linear needs its input cut over tp along features",
            )
        return [_plus(state, op.over)]
    if "tp" in state and op.parallel == "column":
        raise PlacementError(
            where=scene.where,
            given=f"{op.inputs[0]!r} placed {_told(state)}",
            rule="a column-parallel linear needs its input whole over tp",
            way_out="an all_gather over tp is missing before it",
        )
    cut: State = {"tp": Shard("features")} if op.parallel == "column" and scene.layout.tp > 1 else {}
    return [{**state, **cut} for _ in op.outputs]


def _collective(scene: _Scene, op: ops.Collective, state: State) -> State:
    layout_axes = [axis for axis in op.over if axis not in ("ep",)]
    match op.kind:
        case "all_reduce" | "reduce_scatter":
            for axis in layout_axes:
                if not isinstance(state.get(axis), Partial):
                    raise PlacementError(
                        where=scene.where,
                        given=f"{op.inputs[0]!r} placed {_told(state)}",
                        rule=f"nothing is owed over {axis}: a sum would be counted {scene.layout.size((axis,))} times",
                    )
            kept = {axis: placement for axis, placement in state.items() if axis not in op.over}
            if op.kind == "all_reduce":
                return kept
            return {**kept, **_scattered(scene, op)}
        case "all_gather":
            _refuse_partial(scene, state, op.inputs[0])
            return {axis: placement for axis, placement in state.items() if axis not in op.over}
        case "all_to_all":
            return dict(state)


def _scattered(scene: _Scene, op: ops.Collective) -> State:
    """Cut along tokens; along axes whose ranks hold different tokens anyway that is their usual state."""
    usual = {"dp_attention", "moe_tp"} | ({"cp"} if op.split_like else set())
    return {axis: Shard("tokens") for axis in op.over if axis not in usual and scene.layout.size((axis,)) > 1}


def without(program: Program, name: str) -> Program:
    """The program with every op of this name left out (to show that the check notices)."""
    segments = tuple(
        replace(segment, ops=tuple(op for op in segment.ops if op.name != name)) for segment in program.segments
    )
    return replace(program, segments=segments)
