"""Conversations: several turns with a growing context, retrieval before a turn, tool calls inside one.

Every call of the model is one request. A conversation's next request waits for the answer before it, then for a tool
(inside a turn) or for its user (between turns), then for the retrieval of the turn's documents. What prompts have in
common is told by hashes of their leading blocks: the system prompt, documents that others read in the same place, and
the conversation so far.
"""

from dataclasses import dataclass, field
from math import isfinite

import numpy as np

from simulator.errors import WorkloadError
from simulator.workload.lengths import Law, lognormal
from simulator.workload.requests import Floats, Requests
from simulator.workload.streams import stream

_PLACES = 1 << 24
"""Most blocks of a prompt: hash = path x this + place."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A time that is waited, log-normal: `mean_s` and coefficient of variation."""

    mean_s: float = 0.0
    cv: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("mean", self.mean_s), ("cv", self.cv)):
            if not (isfinite(value) and value >= 0.0):
                raise WorkloadError(where=f"wait: {name}", given=f"{value:g}", rule="must be finite, not negative")

    def draw(self, rng: np.random.Generator, count: int) -> Floats:
        """So many waits in seconds."""
        return lognormal(rng, self.mean_s, self.cv, count) if self.mean_s else np.zeros(count)


@dataclass(frozen=True, slots=True)
class Tools:
    """Tool calls (MCP and the like): up to `calls` a turn, evenly from 0; the model writes the call, waits, and reads
    the result as more prompt."""

    calls: int
    latency: Wait
    call: Law
    """Tokens the model writes to call a tool."""
    result: Law
    """Tokens the tool returns."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Documents fetched before every turn and put before the user's words.

    `documents` of them exist; the i-th is asked for in proportion to i^-skew (Zipf). A turn reads `count` different
    ones, the most popular first, so that prompts share them from the front. All have `tokens` tokens.
    """

    latency: Wait
    documents: int
    count: int
    tokens: int
    skew: float = 1.0

    def __post_init__(self) -> None:
        if min(self.documents, self.count, self.tokens) < 1 or self.count > self.documents or not self.skew >= 0.0:
            raise WorkloadError(
                where="retrieval", given=f"{self.count} of {self.documents} documents of {self.tokens} tokens",
                rule="at least one each, no more read than there are, skew not negative",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Conversation:
    """The law of conversations. `turns`: from 1 to so many, evenly."""

    turns: int
    user: Law
    answer: Law
    think: Wait = field(default_factory=Wait)
    system_tokens: int = 0
    system_prompts: int = 1
    """Different system prompts, all as frequent."""
    retrieval: Retrieval | None = None
    tools: Tools | None = None
    keep_kv: bool = True
    """What was said may be found in a prefix cache by the next turn; else only the system prompt and documents may."""
    longest: int = 0
    """A conversation ends before a request of more tokens, prompt and answer; 0: never for that."""
    block_tokens: int = 64
    """Tokens of one hashed block; a multiple of the engine's page."""

    def __post_init__(self) -> None:
        if min(self.turns, self.system_prompts, self.block_tokens) < 1 or self.system_tokens < 0:
            raise WorkloadError(
                where="conversation", given=f"{self.turns} turns, {self.system_prompts} system prompts",
                rule="turns, system prompts and block tokens are at least 1, system tokens not negative",
            )  # fmt: skip


@dataclass(slots=True)
class _Context:
    """The prompt so far as pieces, and the hashes of its whole blocks."""

    block_tokens: int
    path: int = 0
    tokens: int = 0
    hashes: list[int] = field(default_factory=list)
    shared: bool = True
    """Nothing behind a piece that is not shared can be found again."""

    def add(self, path: int, tokens: int, *, shared: bool = True) -> None:
        """Append a piece that brings the prompt to `path`; blocks end with the piece that fills them."""
        self.path = path
        self.tokens += tokens
        self.shared = self.shared and shared
        if self.shared:
            self.hashes += [path * _PLACES + k for k in range(len(self.hashes), self.tokens // self.block_tokens)]


def conversations(law: Conversation, starts_s: Floats, seed: int = 0) -> Requests:
    """All requests of conversations that begin at `starts_s`, in order of their earliest arrival.

    Columns of what differs are drawn from streams of their own. Raises WorkloadError where the first prompt already is
    longer than `law.longest`.
    """
    maker = _Maker(law, seed)
    for session, start_s in enumerate(starts_s):
        maker.conversation(session, float(start_s))
    return maker.requests()


class _Maker:
    def __init__(self, law: Conversation, seed: int) -> None:
        self.law = law
        self.rng = {
            name: stream(seed, f"conversation {name}")
            for name in ("turns", "user", "answer", "think", "tools", "documents", "retrieval", "system")
        }
        self.paths: dict[tuple[int, int], int] = {}
        """(path before, piece) -> path, for pieces that others may share."""
        self.next_path = 1
        self.rows: list[tuple[float, int, int, int, float, float, int]] = []
        """(earliest arrival, prompt, answer, row it follows, delay, waited before, session)."""
        self.hashes: list[tuple[int, ...]] = []
        shares = np.arange(1, law.retrieval.documents + 1) ** -law.retrieval.skew if law.retrieval else np.ones(1)
        self.popularity = np.cumsum(shares / shares.sum())

    def conversation(self, session: int, start_s: float) -> None:
        law = self.law
        turns = int(self.rng["turns"].integers(1, law.turns + 1))
        context = _Context(law.block_tokens)
        if law.system_tokens:
            which = int(self.rng["system"].integers(law.system_prompts))
            context.add(self._shared(0, -1 - which), law.system_tokens)
        at_s, last = start_s, -1
        for turn in range(turns):
            wait_s = float(law.think.draw(self.rng["think"], 1)[0]) if turn else 0.0
            fetched_s = self._retrieve(context)
            context.add(self._own(), int(law.user.draw(self.rng["user"], 1)[0]), shared=law.keep_kv)
            calls = int(self.rng["tools"].integers(law.tools.calls + 1)) if law.tools else 0
            for call in range(calls + 1):
                asked = law.tools.call if law.tools and call < calls else law.answer
                answer = int(asked.draw(self.rng["answer"], 1)[0])
                if law.longest and context.tokens + answer > law.longest:
                    self._too_long(last, context.tokens, answer)
                    return
                delay_s = wait_s + fetched_s
                at_s += delay_s
                last = self._row(at_s, context, answer, last, delay_s, fetched_s, session)
                context.add(self._own(), answer, shared=law.keep_kv)
                if law.tools and call < calls:
                    result = int(law.tools.result.draw(self.rng["tools"], 1)[0])
                    context.add(self._own(), result, shared=law.keep_kv)
                    wait_s, fetched_s = float(law.tools.latency.draw(self.rng["tools"], 1)[0]), 0.0

    def _row(
        self, at_s: float, context: _Context, answer: int, last: int, delay_s: float, fetched_s: float, session: int
    ) -> int:
        delay_s = delay_s if last >= 0 else 0.0
        self.rows.append((at_s, context.tokens, answer, last, delay_s, fetched_s, session))
        self.hashes.append(tuple(context.hashes))
        return len(self.rows) - 1

    def _retrieve(self, context: _Context) -> float:
        """Put a turn's documents into the context; the seconds that took."""
        retrieval = self.law.retrieval
        if retrieval is None:
            return 0.0
        for document in sorted(self._documents(retrieval)):
            context.add(self._shared(context.path, document), retrieval.tokens)
        return float(retrieval.latency.draw(self.rng["retrieval"], 1)[0])

    def _documents(self, retrieval: Retrieval) -> set[int]:
        rng, chosen = self.rng["documents"], set[int]()
        if 2 * retrieval.count > retrieval.documents:  # drawing until they differ would take long
            shares = np.diff(self.popularity, prepend=0.0)
            return set(
                rng.choice(retrieval.documents, retrieval.count, replace=False, p=shares / shares.sum()).tolist()
            )
        while len(chosen) < retrieval.count:
            chosen.add(int(np.searchsorted(self.popularity, rng.uniform(0.0, self.popularity[-1]), side="right")))
        return chosen

    def _shared(self, before: int, piece: int) -> int:
        found = self.paths.get((before, piece))
        if found is None:
            found = self.paths[before, piece] = self._own()
        return found

    def _own(self) -> int:
        self.next_path += 1
        return self.next_path

    def _too_long(self, last: int, prompt: int, answer: int) -> None:
        if last < 0:
            raise WorkloadError(
                where="conversation", given=f"{prompt} + {answer} tokens in the first request",
                rule=f"the model's context holds {self.law.longest}", way_out="use shorter prompts or answers",
            )  # fmt: skip

    def requests(self) -> Requests:
        """The rows by time, the answers they follow renumbered."""
        times, given, asked, after, delay, before, session = (np.array(c) for c in zip(*self.rows, strict=True))
        order = np.argsort(times, kind="stable")
        place = np.empty(len(order) + 1, dtype=np.int64)
        place[order] = np.arange(len(order))
        place[-1] = -1  # what follows nothing
        follows = place[after[order].astype(np.int64)]
        return Requests(
            times[order], given[order].astype(np.int64), asked[order].astype(np.int64),
            tuple(self.hashes[i] for i in order), self.law.block_tokens, follows, delay[order],
            session[order].astype(np.int64), before[order],
        )  # fmt: skip
