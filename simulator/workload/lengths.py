"""Token counts of requests."""

from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np

from simulator.errors import WorkloadError
from simulator.workload.reading import csv_rows, whole_number
from simulator.workload.requests import Floats, Ints

LENGTH_COLUMNS = ("num_prefill_tokens", "num_decode_tokens")


def fixed_lengths(tokens: int, count: int) -> Ints:
    """`count` times the same length."""
    _positive("tokens", tokens)
    return np.full(count, tokens, dtype=np.int64)


def uniform_lengths(rng: np.random.Generator, tokens: int, range_ratio: float, count: int) -> Ints:
    """Whole lengths drawn uniformly from [int(range_ratio x tokens), tokens], both ends included.

    As `--random-range-ratio` of the InferenceX copy of vLLM's benchmark_serving.py draws them: 0.8 gives a mean of
    0.9 L (measured: 0.901 over 327 runs). Raises WorkloadError for a ratio outside (0, 1].
    """
    _positive("tokens", tokens)
    if not 0.0 < range_ratio <= 1.0:
        raise WorkloadError(where="range_ratio", given=f"{range_ratio:g}", rule="must be above 0 and at most 1")
    return rng.integers(max(1, int(range_ratio * tokens)), tokens + 1, count, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Law:
    """A law of lengths: `mean` tokens; spread evenly over mean x [1 - spread, 1 + spread], or log-normally with a
    coefficient of variation `cv`; never above `most` (0: no limit). Raises WorkloadError for what is no such law.
    """

    mean: float
    spread: float = 0.0
    cv: float = 0.0
    most: int = 0

    def __post_init__(self) -> None:
        if not self.mean >= 1.0:
            raise WorkloadError(where="mean length", given=f"{self.mean:g}", rule="must be at least 1")
        if not 0.0 <= self.spread < 1.0 or not 0.0 <= self.cv <= 100.0 or (self.spread and self.cv):
            raise WorkloadError(
                where="lengths", given=f"spread {self.spread:g}, cv {self.cv:g}",
                rule="spread lies in [0, 1), cv is not negative, and one of them is 0",
            )  # fmt: skip

    def draw(self, rng: np.random.Generator, count: int) -> Ints:
        """So many whole lengths, at least 1 each."""
        if self.cv:
            drawn = np.rint(lognormal(rng, self.mean, self.cv, count)).astype(np.int64)
        elif self.spread:
            low, high = round(self.mean * (1.0 - self.spread)), round(self.mean * (1.0 + self.spread))
            drawn = rng.integers(low, high + 1, count, dtype=np.int64)
        else:
            drawn = np.full(count, round(self.mean), dtype=np.int64)
        return np.clip(drawn, 1, self.most or None)


def lognormal(rng: np.random.Generator, mean: float, cv: float, count: int) -> Floats:
    """Log-normal values of that mean and coefficient of variation; all equal to the mean where `cv` is 0."""
    variance = log(1.0 + cv * cv)
    return np.asarray(mean * np.exp(rng.normal(-0.5 * variance, variance**0.5, count)))


def read_lengths_csv(path: Path, *, longest: int = 0, drop: bool = False) -> tuple[Ints, Ints]:
    """(prompt, answer) tokens of each row of num_prefill_tokens and num_decode_tokens: ShareGPT, arXiv summaries.

    Source of the format: github.com/microsoft/vidur, data/processed_traces, 2024. Raises WorkloadError, with the
    line, as the readers of traces do.
    """
    given: list[int] = []
    asked: list[int] = []
    for where, (prompt, answer) in csv_rows(path, LENGTH_COLUMNS):
        pair = (
            whole_number(f"{where}: {LENGTH_COLUMNS[0]}", prompt),
            whole_number(f"{where}: {LENGTH_COLUMNS[1]}", answer),
        )
        if longest and sum(pair) > longest:
            if drop:
                continue
            raise WorkloadError(
                where=where, given=f"{pair[0]} + {pair[1]} tokens", rule=f"the model's context holds {longest}",
                way_out="set traffic.too_long: drop to leave such rows out, or use a model with a longer context",
            )  # fmt: skip
        given.append(pair[0])
        asked.append(pair[1])
    if not given:
        raise WorkloadError(where=str(path), given="", rule="holds no lengths")
    return np.array(given, dtype=np.int64), np.array(asked, dtype=np.int64)


def _positive(where: str, value: int) -> None:
    if value < 1:
        raise WorkloadError(where=where, given=str(value), rule="must be at least 1")
