"""Requests as columns: when each comes, how many tokens it brings and asks for, and which prefix it shares."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.errors import WorkloadError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """n requests in order of arrival. Every request generates exactly `output_tokens` (end of text is ignored).

    `prefixes[i]` holds the hashes of the prompt's leading blocks of `prefix_tokens` tokens each, the same hash
    meaning the same tokens after the same prefix; an empty tuple of tuples: nothing is shared.

    A follow-up (`after[i]` >= 0) is sent `delay_s[i]` seconds after request `after[i]` has finished; its `arrival_s` is
    the earliest that could be, answers taking no time. Columns left out: every request comes by itself at `arrival_s`.
    Raises WorkloadError, naming the request, for lengths below 1, times that are negative, not finite or out of
    order, follow-ups of later requests, and columns of different length.
    """

    arrival_s: Floats
    """When a request reaches the servers: what comes before, such as a retrieval, has passed."""
    input_tokens: Ints
    output_tokens: Ints
    prefixes: tuple[tuple[int, ...], ...] = ()
    prefix_tokens: int = 512
    after: Ints | None = None
    """The request whose answer this one follows; -1: none."""
    delay_s: Floats | None = None
    """From that answer to this request: thinking, tool calls and `before_s`; 0 where there is no such answer."""
    session: Ints | None = None
    """The conversation that a request belongs to."""
    before_s: Floats | None = None
    """What users waited before the request reached the servers (tokenising, retrieval): a part of their TTFT."""
    priority: Ints | None = None
    """Its class: lower ones are dispatched and admitted first, and preempted last."""
    kind: Ints | None = None
    """Which of the traffic's classes it belongs to."""

    def __post_init__(self) -> None:
        n = len(self.arrival_s)
        for name in ("input_tokens", "output_tokens"):
            column = getattr(self, name)
            if len(column) != n:
                raise WorkloadError(where=name, given=f"{len(column)} entries", rule=f"one a request: {n}")
            low = np.flatnonzero(column < 1)
            if len(low):
                raise WorkloadError(
                    where=f"request {low[0]}: {name}", given=str(column[low[0]]), rule="must be at least 1"
                )
        for name in ("after", "delay_s", "session", "before_s", "priority", "kind"):
            extra = getattr(self, name)
            if extra is not None and len(extra) != n:
                raise WorkloadError(where=name, given=f"{len(extra)} entries", rule=f"one a request: {n}")
        if self.prefixes and len(self.prefixes) != n:
            raise WorkloadError(where="prefixes", given=f"{len(self.prefixes)} entries", rule=f"one a request: {n}")
        bad = np.flatnonzero(~(np.isfinite(self.arrival_s) & (self.arrival_s >= 0.0)))
        if len(bad):
            given = f"{self.arrival_s[bad[0]]} s"
            raise WorkloadError(where=f"request {bad[0]}: arrival", given=given, rule="must be finite, not negative")
        back = np.flatnonzero(np.diff(self.arrival_s) < 0.0)
        if len(back):
            i = int(back[0]) + 1
            raise WorkloadError(
                where=f"request {i}: arrival", given=f"{self.arrival_s[i]} s after {self.arrival_s[i - 1]} s",
                rule="requests are in order of arrival",
            )  # fmt: skip
        self._check_followups()

    def _check_followups(self) -> None:
        if (self.after is None) != (self.delay_s is None):
            raise WorkloadError(where="after, delay_s", given="one of the two", rule="are given together")
        if self.after is None or self.delay_s is None:
            return
        wrong = np.flatnonzero((self.after < -1) | (self.after >= np.arange(len(self))))
        if len(wrong):
            i = int(wrong[0])
            raise WorkloadError(
                where=f"request {i}: after", given=str(self.after[i]), rule="must be an earlier request, or -1"
            )
        bad = np.flatnonzero(~(np.isfinite(self.delay_s) & (self.delay_s >= 0.0)))
        if len(bad):
            i = int(bad[0])
            raise WorkloadError(
                where=f"request {i}: delay", given=f"{self.delay_s[i]} s", rule="must be finite, not negative"
            )

    def behind(self, front_s: Floats) -> "Requests":
        """The same requests behind a front end (HTTP, tokeniser) that each passes in `front_s` seconds, in order.

        Users wait for it: it is added to `before_s`.
        """
        reached = np.maximum.accumulate(self.arrival_s + front_s)
        waited = reached - self.arrival_s
        before = np.zeros(len(self)) if self.before_s is None else self.before_s
        delay = self.delay_s
        if self.after is not None and delay is not None:
            follows = self.after >= 0
            waited = np.where(follows, front_s, waited)
            delay = np.where(follows, delay + front_s, delay)
        return replace(self, arrival_s=reached, delay_s=delay, before_s=before + waited)

    def after_waiting(self, front_s: Floats) -> "Requests":
        """The same requests of a closed loop, whose clients pass a front end in `front_s` seconds each time."""
        delay = self.delay_s
        if self.after is not None and delay is not None:
            delay = np.where(self.after >= 0, delay + front_s, delay)
        before = front_s if self.before_s is None else self.before_s + front_s
        return replace(self, delay_s=delay, before_s=before)

    def __len__(self) -> int:
        return len(self.arrival_s)


def requests(arrival_s: Floats, input_tokens: Ints, output_tokens: Ints) -> Requests:
    """Requests without shared prefixes, from anything array-like."""
    return Requests(
        np.asarray(arrival_s, dtype=np.float64),
        np.asarray(input_tokens, dtype=np.int64),
        np.asarray(output_tokens, dtype=np.int64),
    )
