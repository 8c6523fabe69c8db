"""Largest relative error of each tensor of the residual stream, rank by rank, against the unsharded model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.numeric.rank import Array
from simulator.numeric.reference import ReferenceStep
from simulator.parallel.layout import Layout
from simulator.program.build import Segment
from simulator.program.ops import Op
from simulator.program.sharding import coordinate
from simulator.program.work import Work, local_positions

Errors = dict[tuple[int, str], float]
"""(layer of the miniature, -2 for the head; probe) -> largest |difference| over the reference's largest |value|."""


def probes(ops: Sequence[Op]) -> dict[int, tuple[int, str]]:
    """id of an op -> (which of its outputs, name in the reference), for the ops of one layer.

    The probes are whole on a rank, or its share of tokens: the normed inputs of both blocks, and what both
    blocks add to the residual stream once every sum is paid.
    """
    found: dict[int, tuple[int, str]] = {}
    block, last = "attn", None
    for op in ops:
        if op.name == "post_attention_layernorm":
            if last is not None:
                found[id(last)] = (0, "attn_out")
            block, last = "mlp", None
        if op.name == "input_layernorm":
            found[id(op)] = (0, "attn_in")
        elif op.name == "post_attention_layernorm":
            found[id(op)] = (0, "mlp_in")
        elif "delta" in op.outputs:
            last = op
    if last is not None:
        found[id(last)] = (0, f"{block}_out")
    return found


class Comparison:
    """A probe for one step: call it with what each op gave, then read `errors`."""

    def __init__(
        self, layout: Layout, works: tuple[tuple[Work, ...], ...], reference: ReferenceStep, order: Sequence[int]
    ) -> None:
        """`works[rank][micro_batch]`; `order` lists the sequence ids in the order the reference got them."""
        self.layout, self.works, self.reference = layout, works, reference
        self.errors: Errors = {}
        self._probes: dict[int, dict[int, tuple[int, str]]] = {}
        lengths = {s.id: s.new for work in {w for row in works for w in row} for s in work.sequences}
        starts = np.cumsum([0, *(lengths[i] for i in order)])
        self._start = {i: int(start) for i, start in zip(order, starts, strict=False)}
        self._number = {i: n for n, i in enumerate(order)}

    def __call__(self, rank: int, segment: Segment, op: Op, outputs: tuple[Any, ...]) -> None:
        """Compares the outputs of one op on one rank, if it is one that is probed."""
        if op.name == "lm_head":
            self._logits(rank, segment, outputs[0])
        if segment.layer < 0:
            return
        wanted = self._probes.get(id(segment.ops))
        if wanted is None:
            wanted = self._probes[id(segment.ops)] = probes(segment.ops)
        if id(op) not in wanted:
            return
        place, name = wanted[id(op)]
        expected = self.reference.activations[segment.layer][name]
        self._note(segment.layer, name, outputs[place], expected[self._rows(rank, segment)], expected)

    def _rows(self, rank: int, segment: Segment) -> NDArray[np.int64]:
        """Rows of the reference that this rank's share of the residual stream stands for."""
        cp = coordinate(self.layout, rank, ("cp",))
        rows = [
            self._start[s.id] + local_positions(s, cp, self.layout.cp) - s.past
            for s in self.works[rank][segment.micro_batch].sequences
        ]
        joined = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        if not self.layout.sequence_parallel:
            return joined
        return np.array_split(joined, self.layout.tp)[coordinate(self.layout, rank, ("tp",))]

    def _logits(self, rank: int, segment: Segment, logits: Array) -> None:
        numbers = [self._number[s.id] for s in self.works[rank][segment.micro_batch].sequences]
        vocab = self.reference.logits.shape[1]
        columns = np.array_split(np.arange(vocab), self.layout.tp)[coordinate(self.layout, rank, ("tp",))]
        expected = self.reference.logits[numbers][:, columns]
        self._note(-2, "logits", logits, expected, self.reference.logits)

    def _note(self, layer: int, name: str, got: Array, expected: Array, whole: Array) -> None:
        if not got.size:
            return
        error = float(np.max(np.abs(got - expected)) / np.max(np.abs(whole)))
        key = (layer, name)
        self.errors[key] = max(self.errors.get(key, 0.0), error)
