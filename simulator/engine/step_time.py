"""How long a step of a batcher takes: prompt chunks priced one by one, decodes along lines that a leap can follow."""

from bisect import bisect_right
from math import ceil, inf, sqrt
from typing import Protocol, runtime_checkable

from simulator.serving.batcher import Step

# Contexts of the average decode at which its step is priced; between them time is taken as linear in KV tokens (which
# reading them is). 1/8 apart above 64 tokens.
_KNOTS = [0, 16, 32, 64]
while _KNOTS[-1] < 2**24:
    _KNOTS.append(_KNOTS[-1] * 9 // 8)


class StepTime(Protocol):
    """Seconds of one step of a replica; with data-parallel attention, of its busiest rank."""

    def step_time_s(
        self, prefill_tokens: int, prefill_context: int, decode_sequences: int, decode_kv_tokens: int,
        *, prefill_sequences: int = 1,
    ) -> float:  # fmt: skip
        """Seconds of a step of `prefill_sequences` prompt chunks, which bring `prefill_tokens` new tokens in all on
        top of `prefill_context` cached ones, and of `decode_sequences` decodes that read `decode_kv_tokens` in all.

        `simulator.cost.table.StepTable` is one.
        """


@runtime_checkable
class RankedStepTime(StepTime, Protocol):
    """A StepTime that knows what the ranks' tokens beside the busiest one's change."""

    ranked: bool
    """Whether there are data-parallel attention ranks."""

    def step_time_s(
        self, prefill_tokens: int, prefill_context: int, decode_sequences: int, decode_kv_tokens: int,
        expert_skew: float | None = None, prefill_sequences: int = 1, fill: float = 1.0,
    ) -> float:  # fmt: skip
        """As of a StepTime; `fill`: new tokens of all ranks over what they were if each had the busiest one's."""


class Clock:
    """Durations of steps and leaps. Along a leap the time of a step is piecewise linear in its KV tokens, so that a
    leap over k steps takes what k steps take."""

    def __init__(self, step_time: StepTime) -> None:
        self._step_time = step_time
        self._ranked = step_time if isinstance(step_time, RankedStepTime) and step_time.ranked else None
        self._lines: dict[int, dict[int, float]] = {}

    def line(self, decodes: int, kv_tokens: float) -> tuple[float, float, float]:
        """(seconds of a decode step, seconds more per KV token, KV tokens up to which that holds)."""
        knot = bisect_right(_KNOTS, kv_tokens / decodes) - 1
        low_s, high_s = self._at(decodes, knot), self._at(decodes, knot + 1)
        low, high = _KNOTS[knot] * decodes, _KNOTS[knot + 1] * decodes
        slope = (high_s - low_s) / (high - low)
        return low_s + slope * (kv_tokens - low), slope, high

    def _at(self, decodes: int, knot: int) -> float:
        known = self._lines.setdefault(decodes, {})
        found = known.get(knot)
        if found is None:
            kv_tokens = max(_KNOTS[knot], 1) * decodes
            found = known[knot] = self._step_time.step_time_s(0, 0, decodes, kv_tokens)
        return found

    def chunks_s(self, step: Step, rank_tokens: float = 0.0) -> float:
        """Seconds of a step with prompt chunks, or one that moves KV from or to other memory.

        `rank_tokens`: new tokens of an attention rank on average, where `step` is the busiest one's; 0: as many.

        Prefix blocks are fetched layer by layer beside the computing (as SGLang's HiCache and vLLM's LMCache connector
        do); swapped sequences move while nothing runs (vLLM's cache operations come before the step's kernels).
        """
        return max(self._computed_s(step, rank_tokens), step.fetch_s) + step.swap_s

    def _computed_s(self, step: Step, rank_tokens: float) -> float:
        chunks = step.chunks
        if not chunks:
            return self.line(step.decodes, step.decode_kv_tokens)[0] if step.decodes else 0.0
        if len(chunks) == 1:
            _, new, cached = chunks[0]
        else:
            # Chunks after unlike pasts cost about what as many alike do, after their token-weighted mean past.
            new = sum(chunk[1] for chunk in chunks)
            cached = round(sum(chunk[1] * chunk[2] for chunk in chunks) * len(chunks) / new)
        reads = round(step.decode_kv_tokens) if step.decodes else 0
        fill = min(1.0, rank_tokens / (new + step.decodes)) if self._ranked and rank_tokens else 1.0
        if self._ranked is None or fill == 1.0:
            return self._step_time.step_time_s(new, cached, step.decodes, reads, prefill_sequences=len(chunks))
        return self._ranked.step_time_s(new, cached, step.decodes, reads, prefill_sequences=len(chunks), fill=fill)

    def leap(
        self, decodes: int, kv_tokens: float, steps: int, until_s: float, tokens_per_step: float = 1.0
    ) -> tuple[int, float, float, float]:
        """Run up to `steps` decode steps, `kv_tokens` read by the first, each reading `decodes * tokens_per_step` more;
        stop with the first that ends at `until_s` or later, counted from the leap's start.

        Returns (steps run, seconds, seconds of the first, seconds of the last).
        """
        done, total, first, last = 0, 0.0, 0.0, 0.0
        gain = decodes * tokens_per_step
        while done < steps and total < until_s:
            at_s, slope, limit = self.line(decodes, kv_tokens + done * gain)
            # Steps whose KV tokens lie on this line; one that starts below the knot belongs to it.
            count = min(steps - done, max(1, ceil((limit - kv_tokens) / gain - done)))
            rise = slope * gain
            if until_s < inf:
                count = min(count, _steps_within(at_s, rise, until_s - total))
            first = first if done else at_s
            last = at_s + rise * (count - 1)
            total += count * 0.5 * (at_s + last)
            done += count
        return done, total, first, last


def _steps_within(first_s: float, rise_s: float, until_s: float) -> int:
    """Fewest steps, of first_s, first_s + rise_s, ... seconds, that take `until_s` or more; at least 1."""
    b = first_s - 0.5 * rise_s
    root = b * b + 2.0 * rise_s * until_s
    if root <= 0.0:  # falling times: the line ends first
        return 1 << 60
    guess = max(1, int(2.0 * until_s / (b + sqrt(root))))

    def total(count: int) -> float:
        return count * (first_s + 0.5 * rise_s * (count - 1))

    while guess > 1 and total(guess - 1) >= until_s:
        guess -= 1
    while total(guess) < until_s:
        guess += 1
    return guess
