"""Re-sharding a KV cache from one layout to another: who sends what to whom, in heads, tokens and layers.

The same plan moves the miniature's rows and is priced at full size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.errors import LayoutError
from simulator.model.architecture import Architecture, GroupedQueryAttention
from simulator.numeric.rank import RankState, SequenceCache
from simulator.parallel.layout import Layout
from simulator.program.build import stage_layers
from simulator.program.sharding import coordinate, local_kv_heads


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of the cache that goes from one rank to another. `heads` are the model's KV heads (none: a latent)."""

    source: int
    destination: int
    layers: tuple[int, ...]
    sequence: int
    heads: tuple[int, ...]
    positions: tuple[int, ...]


def held_heads(kv_heads: int, layout: Layout, rank: int) -> tuple[int, ...]:
    """KV heads on a rank, in local order."""
    tp, mine = layout.tp, coordinate(layout, rank, ("tp",))
    local = local_kv_heads(kv_heads, tp)
    first = mine * kv_heads // tp if kv_heads < tp else mine * local
    return tuple(range(first, first + local))


def _positions(length: int, layout: Layout, rank: int, *, after_prefill: bool) -> NDArray[np.int64]:
    """Cached positions a rank holds: as a prefill cut them, or dealt round-robin for decoding."""
    cp, mine = layout.cp, coordinate(layout, rank, ("cp",))
    places = np.arange(length)
    if cp == 1:
        return places
    if not after_prefill:
        return np.asarray(places[places % cp == mine])
    parts = np.array_split(places, 2 * cp)
    return np.concatenate([parts[mine], parts[2 * cp - 1 - mine]])


def _data_of(layout: Layout, rank: int) -> int:
    return coordinate(layout, rank, ("dp",)) * layout.dp_attention + coordinate(layout, rank, ("dp_attention",))


def _layers_of(layout: Layout, rank: int, layers: int) -> range:
    return stage_layers(layers, layout.pp)[coordinate(layout, rank, ("pp",))]


def plan(
    architecture: Architecture, source: Layout, destination: Layout, lengths: Mapping[int, int]
) -> tuple[Piece, ...]:
    """Pieces that give every destination rank what it must hold; `lengths` is sequence id -> cached tokens.

    Where several source ranks hold the same heads (or the whole latent), destinations are dealt over them.
    """
    return tuple(_pieces(architecture, source, destination, lengths))


def _pieces(
    architecture: Architecture, source: Layout, destination: Layout, lengths: Mapping[int, int]
) -> Iterator[Piece]:
    count = len(architecture.layers)
    source_data, destination_data = _coordinates(source), _coordinates(destination)
    kinds: dict[int, list[int]] = {}
    for index, layer in enumerate(architecture.layers):
        a = layer.attention
        kinds.setdefault(a.kv_heads if isinstance(a, GroupedQueryAttention) else 0, []).append(index)
    for number, (sequence, length) in enumerate(lengths.items()):
        senders = source_data[number % len(source_data)]
        receivers = destination_data[number % len(destination_data)]
        for to in receivers:
            wanted = set(_positions(length, destination, to, after_prefill=False).tolist())
            for kv_heads, indices in kinds.items():
                mine = set(indices) & set(_layers_of(destination, to, count))
                for piece in _from(senders, source, destination, to, kv_heads, mine, count, length, wanted):
                    yield Piece(piece[0], to, piece[1], sequence, piece[2], piece[3])


def _coordinates(layout: Layout) -> list[tuple[int, ...]]:
    found: list[list[int]] = [[] for _ in range(layout.dp * layout.dp_attention)]
    for rank in range(layout.ranks):
        found[_data_of(layout, rank)].append(rank)
    return [tuple(ranks) for ranks in found]


def _from(
    senders: tuple[int, ...], source: Layout, destination: Layout, to: int, kv_heads: int, layers: set[int],
    count: int, length: int, wanted: set[int],
) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:  # fmt: skip
    needed = held_heads(kv_heads, destination, to) if kv_heads else ()
    turn = coordinate(destination, to, ("tp",))
    shards: dict[tuple[int, int], list[int]] = {}
    for rank in senders:
        shards.setdefault((coordinate(source, rank, ("pp",)), coordinate(source, rank, ("cp",))), []).append(rank)
    for holders in shards.values():
        common = tuple(sorted(layers & set(_layers_of(source, holders[0], count))))
        here = _positions(length, source, holders[0], after_prefill=True)
        positions = tuple(int(p) for p in here if int(p) in wanted)
        if not common or not positions:
            continue
        if not kv_heads:
            yield holders[turn % len(holders)], common, (), positions
            continue
        chosen: dict[int, list[int]] = {}
        for head in needed:
            have = [rank for rank in holders if head in held_heads(kv_heads, source, rank)]
            if not have:
                raise LayoutError(given=f"KV head {head}", rule="no prefill rank holds it")
            chosen.setdefault(have[turn % len(have)], []).append(head)
        for rank, heads in chosen.items():
            yield rank, common, tuple(heads), positions


def carry_out(pieces: tuple[Piece, ...], sources: list[RankState], destinations: list[RankState]) -> None:
    """Copies the miniature's cache rows piece by piece into the (empty) caches of the destination ranks."""
    gathered: dict[tuple[int, int, int], dict[int, list[tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]]]] = {}
    for piece in pieces:
        for layer in piece.layers:
            cache = sources[piece.source].caches[layer, piece.sequence]
            rows = [int(np.flatnonzero(cache.positions == p)[0]) for p in piece.positions]
            parts = gathered.setdefault((piece.destination, layer, piece.sequence), {})
            if not piece.heads:
                parts.setdefault(-1, []).append(
                    (np.array(piece.positions), {n: v[rows] for n, v in cache.rows.items()})
                )
                continue
            attention = sources[piece.source].architecture.layers[layer].attention
            assert isinstance(attention, GroupedQueryAttention)
            local = held_heads(attention.kv_heads, sources[piece.source].layout, piece.source)
            for head in piece.heads:
                at = local.index(head)
                found = {name: value[rows, at : at + 1] for name, value in cache.rows.items()}
                parts.setdefault(head, []).append((np.array(piece.positions), found))
    for (rank, layer, sequence), parts in gathered.items():
        destinations[rank].caches[layer, sequence] = _assembled(parts)


def _assembled(
    parts: dict[int, list[tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]]],
) -> SequenceCache:
    """Rows in order of position, heads in order of head."""
    by_head = []
    positions = np.zeros(0, np.int64)
    for head in sorted(parts):
        positions = np.concatenate([p for p, _ in parts[head]])
        order = np.argsort(positions)
        rows = {n: np.concatenate([r[n] for _, r in parts[head]])[order] for n in parts[head][0][1]}
        by_head.append(rows)
        positions = positions[order]
    joined = (
        by_head[0] if len(by_head) == 1 else {n: np.concatenate([r[n] for r in by_head], axis=1) for n in by_head[0]}
    )
    return SequenceCache(positions, joined)
