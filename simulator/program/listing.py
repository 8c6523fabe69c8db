"""The program read as text: one line an op, for people and for diffs."""

from dataclasses import fields

from simulator.program.build import Program, Segment
from simulator.program.ops import Collective, Linear, Op, Receive, Send
from simulator.units import format_bytes

_PLUMBING = {"name", "inputs", "outputs", "weights", "biases", "stream", "weight", "bias", "share", "load", "shape"}


def listing(program: Program) -> str:
    """Segments with equal ops are listed once, with the layers they stand for."""
    lines = [f"stage {program.stage}: {len(program.works)} micro-batch(es), {sum(1 for _ in program.ops())} ops"]
    groups: list[tuple[list[Segment], tuple[Op, ...]]] = []
    for segment in program.segments:
        if groups and groups[-1][1] is segment.ops:
            groups[-1][0].append(segment)
        else:
            groups.append(([segment], segment.ops))
    for segments, ops in groups:
        lines.append(f"{_heading(segments)}  [micro-batch {segments[0].micro_batch}]")
        lines += [f"  {_line(op)}" for op in ops]
    return "\n".join(lines)


def _heading(segments: list[Segment]) -> str:
    first, last = segments[0], segments[-1]
    if first.layer < 0:
        return first.place
    return f"layer {first.layer}" if first is last else f"layers {first.layer}..{last.layer}"


def _line(op: Op) -> str:
    what = op.kind if isinstance(op, Collective) else type(op).__name__.lower()
    flow = f"{', '.join(op.inputs)} -> {', '.join(op.outputs)}"
    stream = op.stream if isinstance(op, Collective | Send | Receive) else "compute"
    return f"{stream:8}{what:16}{op.name:28} {flow:44} {_shape(op)}"


def _shape(op: Op) -> str:
    match op:
        case Linear(tokens=tokens, k=k, ns=ns, dtype=dtype, parallel=parallel):
            return f"[{tokens}, {k}] x [{k}, {sum(ns)}] {dtype} {parallel}"
        case Collective(over=over, bytes=size):
            return f"over {'x'.join(over)}, {format_bytes(size)}"
        case Send(bytes=size) | Receive(bytes=size):
            return format_bytes(size)
    shown = [f"{f.name}={value}" for f in fields(op) if f.name not in _PLUMBING and (value := getattr(op, f.name))]
    return " ".join(shown[:6])
