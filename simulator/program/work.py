"""The work of one step: which sequences bring how many new tokens on top of how many cached ones."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simulator.errors import LayoutError


@dataclass(frozen=True, slots=True)
class Sequence:
    """One request in a step: `new` tokens to compute, `past` tokens already in the KV cache."""

    id: int
    new: int
    past: int


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """What attention costs depend on, with the identity of the sequences forgotten.

    `share` is the part of the query-key pairs that falls to one rank (1 / cp in a context-parallel
    prefill, whose zigzag split balances the causal triangle; in decode the KV tokens are shared out).
    """

    prefills: tuple[tuple[int, int], ...]
    """(new, past) of each sequence with more than one new token."""
    decodes: int
    """Sequences with one new token."""
    decode_kv_tokens: int
    """Cached tokens (the new one included) over all decoding sequences."""
    share: float = 1.0


@dataclass(frozen=True)
class Work:
    """One micro-batch of one data-parallel coordinate. Empty work is legal: a rank with nothing to do."""

    sequences: tuple[Sequence, ...]
    empty_decodes: bool = True
    """What a rank with nothing to do does: the ops of a decode step (of a prefill, if False)."""
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        for sequence in self.sequences:
            if sequence.new < 1 or sequence.past < 0:
                raise LayoutError(
                    given=f"sequence {sequence.id}: new={sequence.new}, past={sequence.past}",
                    rule="a sequence brings at least one new token and no negative past",
                )
        object.__setattr__(self, "_hash", hash(self.sequences))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def tokens(self) -> int:
        """New tokens of all sequences."""
        return sum(sequence.new for sequence in self.sequences)

    @cached_property
    def decode(self) -> bool:
        """Every sequence brings exactly one token and has a past."""
        if not self.sequences:
            return self.empty_decodes
        return all(sequence.new == 1 and sequence.past > 0 for sequence in self.sequences)

    def local_tokens(self, cp: int) -> int:
        """New tokens on the fullest context-parallel rank; decode tokens are on all of them."""
        if cp == 1 or self.decode:
            return self.tokens
        return sum(sum(len(part) for part in _zigzag(s.new, 0, cp)) for s in self.sequences)

    def anonymous(self) -> "Work":
        """The same work with sequences numbered from 0: works of one shape become equal, and share a program."""
        return Work(tuple(Sequence(i, s.new, s.past) for i, s in enumerate(self.sequences)), self.empty_decodes)

    def attention_shape(self, cp: int) -> AttentionShape:
        """The shape attention is priced by, on one of `cp` context-parallel ranks."""
        prefills = tuple((s.new, s.past) for s in self.sequences if s.new > 1 or s.past == 0)
        decodes = [s for s in self.sequences if s.new == 1 and s.past > 0]
        return AttentionShape(prefills, len(decodes), sum(s.past + 1 for s in decodes), 1.0 / cp)


def _zigzag(new: int, index: int, cp: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    parts = np.array_split(np.arange(new), 2 * cp)
    return parts[index], parts[2 * cp - 1 - index]


def local_positions(sequence: Sequence, index: int, cp: int) -> NDArray[np.int64]:
    """Positions of the new tokens that context-parallel rank `index` computes.

    A prefill is cut into 2 cp chunks of which rank i takes the i-th and the i-th from the end, so that
    the causal work is even (Llama 3, arXiv:2407.21783, section 3.3.2). Decode tokens are on every rank.
    """
    if cp == 1 or (sequence.new == 1 and sequence.past > 0):
        return np.arange(sequence.past, sequence.past + sequence.new)
    return sequence.past + np.concatenate(_zigzag(sequence.new, index, cp))


def stored_positions(sequence: Sequence, index: int, cp: int) -> NDArray[np.int64]:
    """Positions among the new ones whose KV entries context-parallel rank `index` keeps."""
    mine = local_positions(sequence, index, cp)
    if cp > 1 and sequence.new == 1 and sequence.past > 0:
        return np.asarray(mine[mine % cp == index])
    return mine


def share_out(sequences: tuple[Sequence, ...], parts: int, *, empty_decodes: bool | None = None) -> tuple[Work, ...]:
    """Sequences dealt round-robin to `parts` data-parallel coordinates or micro-batches."""
    decodes = Work(sequences).decode if empty_decodes is None else empty_decodes
    return tuple(Work(sequences[i::parts], decodes) for i in range(parts))
