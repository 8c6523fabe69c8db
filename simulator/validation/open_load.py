"""What arrives in an open loop, from a row's words: the process of arrivals, lengths, and how many requests."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simulator.errors import WorkloadError
from simulator.validation.links import text
from simulator.workload import constant_arrivals, gamma_arrivals, poisson_arrivals, stream
from simulator.workload.requests import Floats, Ints, Requests

FEWEST_CLOSED = 50
"""Requests of a closed loop of few clients."""
EVEN_CV = 0.05
"""Below this coefficient of variation the gaps are taken as equal."""
_BURSTINESS = re.compile(r"burstiness\s+([\d.]+)")
_SHARED = re.compile(r"shared_prefix: (\d+) system prompts x (\d+) users, system (\d+)")
CONVERSATIONS = "sharegpt"
ROUNDS = 3
QUESTION_TOKENS = 60
"""LMBench's ShareGPT workload: conversations of at least five rounds sent from the third on, users in turn (its README,
2025-05: `prepare_sharegpt_data.sh -m 5 -s 3`); rounds three to five are taken, the questions' length is assumed."""
UNSTATED_PROMPTS = 100
"""Different prompts of a run that says prefix caching was on but not how many there were: as the shared-prefix workload
that states them (10 x 10)."""

# Coefficients of variation of input and output lengths around the stated means. ShareGPT answers: p50 0.88, p90 2.1 and
# p99 3.1 times the mean, which a gamma law of 0.75 follows (10,000 conversations); later turns bring their history, so
# prompts vary less than first turns do. LMBench's short inputs and all that call themselves fixed are fixed.
_SPREAD: tuple[tuple[str, float, float], ...] = (
    ("fixed", 0.0, 0.0), ("short_input", 0.0, 0.0), ("shared_prefix", 0.0, 0.0), ("sharegpt", 0.6, 0.75),
    ("", 0.3, 0.3),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DataSet:
    """Lengths of an MLPerf data set: means, and coefficients of variation where they are not fixed."""

    input_tokens: float
    output_tokens: float
    input_cv: float
    output_cv: float


# Means of outputs: tokens_per_sample of the accuracy targets (github.com/mlcommons/inference, language/*/README.md:
# llama2-70b 294.45, mixtral-8x7b 145.9, llama3.1-405b 684.68; llama3.1-8b is cut at 128). Inputs: MLCommons' notes on
# each benchmark (mlcommons.org: llama2-70b and OpenOrca 2024-03, mixtral 2024-08, llama3.1-405b 2025-04 with about
# 9,400, deepseek-r1 2025-09 with about 800 in and 3,880 out, llama3.1-8b 2025-09 with about 778); mixtral's mix of
# OpenOrca, GSM8K and MBXP is taken as long as OpenOrca. The spreads are not published: OpenOrca's answers as
# ShareGPT's, and news articles and retrieved contexts around half their mean.
MLPERF: dict[str, DataSet] = {
    "llama2-70b": DataSet(294.0, 294.45, 0.75, 0.75), "mixtral-8x7b": DataSet(294.0, 145.9, 0.75, 0.75),
    "llama3.1-405b": DataSet(9400.0, 684.68, 0.6, 0.75), "llama3.1-8b": DataSet(778.0, 128.0, 0.4, 0.0),
    "deepseek-r1": DataSet(800.0, 3880.0, 0.5, 0.9), "gptj": DataSet(1100.0, 69.0, 0.4, 0.5),
}  # fmt: skip


def data_set(model: str) -> DataSet | None:
    """The MLPerf data set of a benchmark's model name, with or without its accuracy level (`llama2-70b-99.9`)."""
    name = re.sub(r"-(99(\.9)?|interactive|edge)$", "", model.lower())
    return MLPERF.get(name)


def arrivals(row: Any, rate_per_s: float, count: int, seed: int = 0) -> Floats:
    """Times of `count` requests at `rate_per_s` in the row's process.

    "poisson", "gamma burstiness x", "constant ..." (with its measured arrival_cv as Gamma gaps of shape 1 / cv**2).
    A process that is not stated is taken as equal gaps: measured tails (p99 of first tokens 1.2 to 1.4 times their
    mean) leave no room for two arrivals at once. Raises WorkloadError for a rate that is missing or not positive.
    """
    if not rate_per_s > 0.0:
        raise WorkloadError(where="offered_requests_per_s", given=str(rate_per_s), rule="must be stated and positive")
    kind, rng = text(row.load_kind).lower(), stream(seed, "arrivals")
    burst = _BURSTINESS.search(kind)
    if burst:
        return gamma_arrivals(rng, rate_per_s, float(burst[1]), count)
    if kind.startswith("poisson"):
        return poisson_arrivals(rng, rate_per_s, count)
    cv = float(row.arrival_cv) if pd.notna(row.arrival_cv) else 0.0
    if cv < EVEN_CV:
        return constant_arrivals(rate_per_s, count)
    return gamma_arrivals(rng, rate_per_s, 1.0 / cv**2, count)


def spread_lengths(rng: np.random.Generator, mean: float, cv: float, count: int) -> Ints:
    """Whole lengths of at least 1 around `mean`, Gamma with coefficient of variation `cv`; all equal for 0."""
    if cv <= 0.0:
        return np.full(count, max(1, round(mean)), dtype=np.int64)
    drawn = rng.gamma(1.0 / cv**2, mean * cv**2, count)
    drawn *= mean / drawn.mean()  # the stated mean is the run's own
    return np.maximum(1, np.rint(drawn)).astype(np.int64)


def spread_of(row: Any) -> tuple[float, float]:
    """(input, output) coefficients of variation of a row's workload."""
    workload = text(row.workload).lower()
    return next((a, b) for word, a, b in _SPREAD if word in workload)


def shared_parts(row: Any) -> tuple[int, int]:
    """(different prompts, leading tokens that all prompts of a system prompt share) of a workload whose prompts come
    again; (0, 0) where each prompt is new.

    >>> from types import SimpleNamespace
    >>> shared_parts(SimpleNamespace(workload="shared_prefix: 10 system prompts x 10 users, system 128 + question 64"))
    (100, 128)
    """
    workload = text(row.workload).lower()
    stated = _SHARED.search(workload)
    if stated:
        return int(stated[1]) * int(stated[2]), int(stated[3])
    return (UNSTATED_PROMPTS, 0) if "prefix caching on" in workload else (0, 0)


def clients_of(row: Any) -> int:
    """Clients of a closed loop, which a row of an open table may be: it states a concurrency and no rate; else 0."""
    closed = pd.notna(row.concurrency) and pd.isna(row.offered_requests_per_s)
    return int(row.concurrency) if closed else 0


def requests_of(row: Any) -> int:
    """Requests of a run; ten a client of a closed loop that does not say. Raises WorkloadError where nothing tells."""
    if pd.notna(row.num_requests):
        return int(row.num_requests)
    if not clients_of(row):
        raise WorkloadError(where="num_requests", given="", rule="the number of requests is not stated")
    return max(FEWEST_CLOSED, 10 * clients_of(row))


def stated_load(row: Any, block_tokens: int) -> Requests:
    """The run of a row that states its lengths and number of requests: exactly so many.

    Prompts that come again keep their length and the hashes of their whole blocks of `block_tokens`.
    """
    count = requests_of(row)
    input_cv, output_cv = spread_of(row)
    prompts, common = shared_parts(row)
    kinds = prompts or count
    given = spread_lengths(stream(0, "input_tokens"), float(row.mean_input_tokens), input_cv, kinds)
    asked = spread_lengths(stream(0, "output_tokens"), float(row.mean_output_tokens), output_cv, count)
    times = np.zeros(count) if clients_of(row) else arrivals(row, float(row.offered_requests_per_s), count)
    if CONVERSATIONS in text(row.workload).lower():
        return conversations(times, float(row.mean_input_tokens), input_cv, asked, block_tokens)
    if not prompts:
        return Requests(times, given, asked)
    drawn = stream(0, "prompts").integers(0, prompts, count)
    hashes = [_hashes(kind, int(given[kind]), common, block_tokens) for kind in range(prompts)]
    return Requests(times, given[drawn], asked, tuple(hashes[kind] for kind in drawn), block_tokens)


def conversations(times: Floats, mean: float, cv: float, asked: Ints, block_tokens: int) -> Requests:
    """Users in turn ask `ROUNDS` questions each, every prompt holding all that was said before it."""
    count = len(times)
    users = -(-count // ROUNDS)
    who, turn = np.arange(count) % users, np.arange(count) // users
    first = spread_lengths(stream(0, "input_tokens"), 1.0e3 * mean, cv, users) / (1.0e3 * mean)
    given = first[who] * mean
    for i in range(users, count):
        given[i] = given[i - users] + asked[i - users] + QUESTION_TOKENS
    lengths = np.maximum(1, np.rint(given * mean / given.mean())).astype(np.int64)
    hashes = tuple(_hashes(int(user), int(size), 0, block_tokens) for user, size in zip(who, lengths, strict=True))
    assert turn.max(initial=0) < ROUNDS
    return Requests(times, lengths, asked, hashes, block_tokens)


def _hashes(kind: int, tokens: int, common: int, block_tokens: int) -> tuple[int, ...]:
    """A hash a whole block: of the system prompt (ten questions share one) or of this prompt alone."""
    blocks = range(tokens // block_tokens)
    return tuple(
        (kind // 10 if (block + 1) * block_tokens <= common else 1_000 + kind) * 1_000_000 + block for block in blocks
    )


def share_of(load: Requests, replica: int, replicas: int, *, at_random: bool) -> Requests:
    """What one of several replicas gets when requests are dealt in turn, or at random as a Kubernetes service does."""
    if replicas == 1:
        return load
    places = np.arange(len(load))
    drawn = stream(0, "replicas").integers(0, replicas, len(load)) if at_random else places % replicas
    mine = places[drawn == replica]
    prefixes = tuple(load.prefixes[i] for i in mine) if load.prefixes else ()
    return Requests(
        load.arrival_s[mine], load.input_tokens[mine], load.output_tokens[mine], prefixes, load.prefix_tokens
    )
