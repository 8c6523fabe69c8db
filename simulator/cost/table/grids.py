"""Interpolation inside a table: dense lines over tokens, a plane for decoding, a box for prompts.

Points stand at powers of two, and at one and a half times those: `frexp` finds a cell without a search. Values between
are linear in cached tokens and in sequences (what a kernel reads is), and a power law in a prompt's new tokens (its
pairs grow with the square). Times that grow from point to point grow between points too.
"""

from dataclasses import dataclass
from math import frexp, log2

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


def half_octaves(top: float) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, ... up to the first that is `top` or more.

    >>> half_octaves(10)
    (1, 2, 3, 4, 6, 8, 12)
    """
    found = [1]
    while found[-1] < top:
        last = found[-1]
        found.append(2 if last == 1 else last * 3 // 2 if last & (last - 1) == 0 else last // 3 * 4)
    return tuple(found)


def octaves(start: int, top: float) -> tuple[int, ...]:
    """0, then start, 2 start, 4 start ... up to the first that is `top` or more; `start` is a power of two."""
    found = [0, start]
    while found[-1] < top:
        found.append(found[-1] * 2)
    return tuple(found)


def _half_cell(x: float) -> tuple[int, float]:
    """Cell among `half_octaves` and the place inside it, linear: 0 to 1."""
    if x < 2.0:
        return 0, x - 1.0
    m, e = frexp(x)
    return (2 * e - 3, 4.0 * m - 2.0) if m < 0.75 else (2 * e - 2, 4.0 * m - 3.0)


def _half_cells(x: Array) -> tuple[Ints, Array]:
    m, e = np.frexp(x)
    upper = m >= 0.75
    index = 2 * e - 3 + upper
    place = 4.0 * m - 2.0 - upper
    small = x < 2.0
    if small.any():
        index = np.where(small, 0, index)
        place = np.where(small, x - 1.0, place)
    return index.astype(np.intp), place


@dataclass(frozen=True, slots=True)
class Octaves:
    """Cells of `octaves(start, ...)`."""

    start: int

    def cell(self, x: float) -> tuple[int, float]:
        """Index and place of one number."""
        if x < self.start:
            return 0, x / self.start
        m, e = frexp(x / self.start)
        return e, 2.0 * m - 1.0

    def cells(self, x: Array) -> tuple[Ints, Array]:
        """The same for an array."""
        scaled = x * (1.0 / self.start)
        m, e = np.frexp(scaled)
        small = scaled < 1.0
        return np.where(small, 0, e).astype(np.intp), np.where(small, scaled, 2.0 * m - 1.0)


class Plane:
    """Decode attention over (sequences, cached tokens of each): bilinear; values[sequence point, token point]."""

    def __init__(self, sequences: tuple[int, ...], tokens: tuple[int, ...], values: Array) -> None:
        self.top_sequences, self.top_tokens = float(sequences[-1]), float(tokens[-1])
        self._tokens = Octaves(tokens[1])
        # A number on the last point falls into a cell past the last: repeat it there, with no slope.
        padded = np.pad(values, ((0, 1), (0, 1)), mode="edge")
        a = padded[:-1, :-1]
        b, c = padded[1:, :-1] - a, padded[:-1, 1:] - a
        d = padded[1:, 1:] - a - b - c
        self._cells = np.stack([a, b, c, d], axis=-1)
        self._width = len(tokens)
        self._flat = self._cells.reshape(-1, 4)
        self._rows: list[list[float]] = self._flat.tolist()

    def holds(self, sequences: float, tokens: float) -> bool:
        """Whether the plane was tabulated here."""
        return sequences <= self.top_sequences and tokens <= self.top_tokens

    def at(self, sequences: float, tokens: float) -> float:
        """Seconds; `holds` must be true and sequences at least 1."""
        i, u = _half_cell(sequences)
        j, v = self._tokens.cell(tokens)
        a, b, c, d = self._rows[i * self._width + j]
        return a + b * u + (c + d * u) * v

    def many(self, sequences: Array, tokens: Array) -> Array:
        """The same for arrays."""
        i, u = _half_cells(sequences)
        j, v = self._tokens.cells(tokens)
        i *= self._width
        i += j
        cell = self._flat.take(i, axis=0, mode="clip")
        return cell[:, 0] + cell[:, 1] * u + (cell[:, 2] + cell[:, 3] * u) * v


class Box:
    """Prompt attention over (prompts, new tokens of each, cached tokens of each); values in that order of axes."""

    def __init__(self, prompts: tuple[int, ...], new: tuple[int, ...], cached: tuple[int, ...], values: Array) -> None:
        self.top_prompts, self.top_new, self.top_cached = float(prompts[-1]), float(new[-1]), float(cached[-1])
        self._prompts = prompts
        self._new, self._log_new = new, [log2(n) for n in new] + [log2(new[-1]) + 1.0]
        self._cached = Octaves(cached[1])
        padded = np.pad(values, ((0, 0), (0, 1), (0, 1)), mode="edge")
        self._values: list[list[list[float]]] = padded.tolist()
        pairs = np.stack([padded[..., :-1], np.diff(padded, axis=-1)], axis=-1)
        self._pairs = pairs.reshape(-1, 2)
        self._shape = pairs.shape

    def holds(self, prompts: float, new: float, cached: float) -> bool:
        """Whether the box was tabulated here."""
        return prompts <= self.top_prompts and new <= self.top_new and cached <= self.top_cached

    def at(self, prompts: float, new: float, cached: float) -> float:
        """Seconds; `holds` must be true, prompts and new at least 1."""
        layer = 0
        while layer + 1 < len(self._prompts) and self._prompts[layer + 1] <= prompts:
            layer += 1
        i, _ = _half_cell(new)
        low = self._log_new[i]
        w = (log2(new) - low) / (self._log_new[i + 1] - low)
        j, v = self._cached.cell(cached)
        first = self._line(layer, i, j, w, v)
        if self._prompts[layer] == prompts:
            return first
        u = (prompts - self._prompts[layer]) / (self._prompts[layer + 1] - self._prompts[layer])
        return first + u * (self._line(layer + 1, i, j, w, v) - first)

    def _line(self, layer: int, i: int, j: int, w: float, v: float) -> float:
        low, high = self._values[layer][i], self._values[layer][i + 1]
        a = low[j] + v * (low[j + 1] - low[j])
        b = high[j] + v * (high[j + 1] - high[j])
        return a * float((b / a) ** w) if a > 0.0 else 0.0

    def many(self, prompts: Array, new: Array, cached: Array) -> Array:
        """The same for arrays."""
        layer = np.searchsorted(np.asarray(self._prompts), prompts, side="right") - 1
        i, _ = _half_cells(new)
        logs = np.asarray(self._log_new)
        w = (np.log2(new) - logs[i]) / (logs[i + 1] - logs[i])
        j, v = self._cached.cells(cached)
        first = self._lines(layer, i, j, w, v)
        counts = np.asarray(self._prompts, dtype=np.float64)
        between = counts[layer] != prompts
        if between.any():
            at = np.flatnonzero(between)
            low = counts[layer[at]]
            u = (prompts[at] - low) / (counts[layer[at] + 1] - low)
            second = self._lines(layer[at] + 1, i[at], j[at], w[at], v[at])
            first[at] += u * (second - first[at])
        return first

    def _lines(self, layer: Ints, i: Ints, j: Ints, w: Array, v: Array) -> Array:
        _, rows, columns, _ = self._shape
        flat = (layer * rows + i) * columns + j
        low, high = self._pairs.take(flat, axis=0), self._pairs.take(flat + columns, axis=0)
        a = low[:, 0] + v * low[:, 1]
        b = high[:, 0] + v * high[:, 1]
        ratio = np.divide(b, a, out=np.ones_like(a), where=a > 0)
        return np.asarray(a * ratio**w)
