"""The KV cache on its way from the prefill pool to the decode pool, over simulated NICs."""

from collections.abc import Generator, Mapping
from typing import Any

import simpy

from simulator.cost.collective.transfer import MOVERS, Engine, line_share
from simulator.engine.communicator import Communicator
from simulator.engine.deployment import Deployment, Pool
from simulator.engine.flows import FlowNetwork
from simulator.engine.links import Links
from simulator.engine.log import HandoverRecord
from simulator.engine.miniature_run import MiniatureRun
from simulator.model.architecture import Architecture, GroupedQueryAttention
from simulator.model.kv_cache import layer_sequence_bytes
from simulator.numeric.handover import Piece, carry_out, plan
from simulator.numeric.rank import RankState
from simulator.program.ops import Collective

States = tuple[list[RankState], list[RankState]]
NUMBER_BYTES = 8.0
"""Of a float64 in the miniature."""


def piece_bytes(architecture: Architecture, piece: Piece, length: int) -> float:
    """Full-size bytes of one piece: its part of the sequence's cache, over its layers."""
    total = 0.0
    for layer in piece.layers:
        attention = architecture.layers[layer].attention
        whole = layer_sequence_bytes(attention, architecture.quantization, length)
        share = len(piece.heads) / attention.kv_heads if isinstance(attention, GroupedQueryAttention) else 1.0
        total += whole * share * len(piece.positions) / length
    return total


class HandoverRun:
    """Plans, times and (where numbers run) carries out one hand-over."""

    def __init__(
        self,
        deployment: Deployment,
        source: Pool,
        destination: Pool,
        comm: Communicator,
        links: Links,
        flows: FlowNetwork | None = None,
    ) -> None:
        self.architecture = deployment.architecture
        self.source, self.destination, self.comm, self.links = source, destination, comm, links
        self.flows = flows
        self.mover: Engine = "mooncake-vllm"
        self.records: list[HandoverRecord] = []

    def run(
        self, env: simpy.Environment, lengths: Mapping[int, int], miniature: MiniatureRun | None, states: States | None
    ) -> Generator[simpy.Event, Any, None]:
        """One message for each pair of ranks that have something for each other, all at once; ends with the last."""
        pieces = plan(self.architecture, self.source.layout, self.destination.layout, lengths)
        small = self.numbers(miniature, states) if miniature is not None and states is not None else {}
        first_copy = _first_copies(pieces)
        grouped: dict[tuple[int, int], list[Piece]] = {}
        for piece in pieces:
            grouped.setdefault((piece.source, piece.destination), []).append(piece)
        start_s = env.now
        sends = []
        for (source, destination), group in grouped.items():
            size = sum(piece_bytes(self.architecture, p, lengths[p.sequence]) for p in group)
            copies = sum(
                piece_bytes(self.architecture, p, lengths[p.sequence]) for p in group if id(p) not in first_copy
            )
            layers = len({layer for p in group for layer in p.layers})
            tokens = sum(len(p.positions) for p in group)
            moved = small.get((source, destination), 0.0)
            told = (source, destination, layers, tokens, size, moved, copies, start_s)
            sends.append(env.process(self._send(env, told)))
        yield env.all_of(sends)

    def _send(
        self, env: simpy.Environment, told: tuple[int, int, int, int, float, float, float, float]
    ) -> Generator[simpy.Event, Any, None]:
        source, destination, layers, _, size, *_ = told
        gpus = (self.source.gpus[source], self.destination.gpus[destination])
        if gpus[0] != gpus[1]:
            path = self.comm.path(gpus, 0, 1)
            latency_s, efficiency = self._rate(gpus, size, layers)
            if self.flows is not None:
                yield from self.flows.send((gpus[0], gpus[1]), path, size, latency_s, efficiency, "kv_transfer")
            else:
                end_s = self.links.send(path, size, env.now, latency_s, efficiency, "kv_transfer")
                yield env.timeout(end_s - env.now)
        self.records.append(HandoverRecord(*told, env.now))

    def _rate(self, gpus: tuple[int, int], size: float, layers: int) -> tuple[float, float]:
        """Latency of one message and the part of the line's rate it reaches."""
        if self.comm.crosses_nodes(gpus, 0, 1):
            mover, facts = MOVERS[self.mover], self.comm.links(gpus)
            return mover.fixed_s + mover.layer_s * layers + facts.network_latency_s, line_share(
                facts.network, self.mover
            )
        wire = Collective(name="kv_transfer", inputs=(), outputs=(), kind="all_gather", over=(), bytes=size)
        steps = self.comm.steps(wire, gpus)
        return steps.launch_s + steps.intra_step_s, steps.intra_efficiency

    def numbers(self, miniature: MiniatureRun, states: States) -> dict[tuple[int, int], float]:
        """Moves the miniature's cache; returns the bytes it moved between each pair."""
        lengths = {i: len(prompt) for i, prompt in miniature.prompts.items()}
        pieces = plan(miniature.architecture, self.source.layout, self.destination.layout, lengths)
        carry_out(pieces, *states)
        moved: dict[tuple[int, int], float] = {}
        for piece in pieces:
            key = (piece.source, piece.destination)
            moved[key] = moved.get(key, 0.0) + _small_bytes(miniature.architecture, piece)
        return moved


def _small_bytes(architecture: Architecture, piece: Piece) -> float:
    total = 0.0
    for layer in piece.layers:
        a = architecture.layers[layer].attention
        if isinstance(a, GroupedQueryAttention):
            width = len(piece.heads) * (a.head_dim + a.v_head_dim)
        else:
            width = a.kv_lora_rank + a.rope_head_dim  # type: ignore[union-attr]
        total += width * len(piece.positions) * NUMBER_BYTES
    return total


def _first_copies(pieces: tuple[Piece, ...]) -> set[int]:
    """ids of the pieces that carry something for the first time; the others are duplicated heads or latents."""
    seen: set[tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = set()
    first = set()
    for piece in pieces:
        key = (piece.sequence, piece.layers, piece.heads, piece.positions)
        if key not in seen:
            seen.add(key)
            first.add(id(piece))
    return first
