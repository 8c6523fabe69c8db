"""Arrivals, lengths, closed loops: what they promise on average and in every draw."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import WorkloadError
from simulator.workload import (
    Requests,
    closed_loop,
    constant_arrivals,
    fixed_lengths,
    gamma_arrivals,
    poisson_arrivals,
    stream,
    uniform_lengths,
)


def test_streams_are_apart_and_repeat() -> None:
    first, again, other, seeded = (stream(s, n).random(8) for s, n in ((3, "a"), (3, "a"), (3, "b"), (4, "a")))
    assert (first == again).all()
    assert not (first == other).any()
    assert not (first == seeded).any()


@pytest.mark.parametrize(("burstiness", "variation"), [(1.0, 1.0), (0.25, 2.0), (4.0, 0.5)])
def test_gamma_gaps_have_their_mean_and_spread(burstiness: float, variation: float) -> None:
    gaps = np.diff(gamma_arrivals(stream(1, "arrivals"), 5.0, burstiness, 40_000))
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.03)


def test_poisson_counts_vary_as_much_as_their_mean() -> None:
    times = poisson_arrivals(stream(2, "arrivals"), 7.0, 40_000)
    counts = np.bincount(times.astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.06)


def test_constant_arrivals() -> None:
    assert constant_arrivals(4.0, 3).tolist() == [0.0, 0.25, 0.5]


@settings(max_examples=60)
@given(tokens=st.integers(1, 3000), ratio=st.floats(0.01, 1.0), seed=st.integers(0, 99))
def test_uniform_lengths_stay_in_range(tokens: int, ratio: float, seed: int) -> None:
    drawn = uniform_lengths(stream(seed, "x"), tokens, ratio, 50)
    assert drawn.min() >= max(1, int(ratio * tokens))
    assert drawn.max() <= tokens


def test_uniform_lengths_reach_both_ends_and_the_measured_mean() -> None:
    drawn = uniform_lengths(stream(0, "x"), 1024, 0.8, 20_000)
    assert (drawn.min(), drawn.max()) == (819, 1024)
    # 327 public runs: mean output 0.901 of the nominal length, 5 to 95 %: 0.894 to 0.908.
    assert 0.894 < drawn.mean() / 1024 < 0.908


def test_closed_loop_is_the_public_protocol() -> None:
    loop = closed_loop(16, input_tokens=1024, output_tokens=512, range_ratio=0.8, seed=5)
    assert (len(loop.requests), loop.warmups, loop.concurrency) == (160, 32, 16)
    assert not (loop.requests.arrival_s > 0).any()
    given, asked = loop.requests.input_tokens / 1024, loop.requests.output_tokens / 512
    assert abs(float(np.corrcoef(given, asked)[0, 1])) < 0.3
    again = closed_loop(16, input_tokens=1024, output_tokens=512, range_ratio=0.8, seed=5)
    assert (again.requests.input_tokens == loop.requests.input_tokens).all()


def test_output_lengths_do_not_move_input_lengths() -> None:
    few = closed_loop(3, input_tokens=100, output_tokens=50, range_ratio=0.5)
    many = closed_loop(3, input_tokens=100, output_tokens=70, range_ratio=0.5)
    assert (few.requests.input_tokens == many.requests.input_tokens).all()


def _requests(arrivals: list[float], given: list[int], asked: list[int]) -> Requests:
    return Requests(np.array(arrivals), np.array(given), np.array(asked))


@pytest.mark.parametrize(
    ("arrivals", "given_tokens", "asked", "said"),
    [
        ([0.0, 2.0, 1.0], [5, 6, 7], [1, 2, 3], "request 2: arrival: 1.0 s after 2.0 s: requests are in order"),
        ([0.0, -1.0], [5, 6], [1, 2], "request 1: arrival: -1.0 s"),
        ([0.0, float("nan")], [5, 6], [1, 2], "request 1: arrival: nan s: must be finite"),
        ([0.0, 1.0], [5, 0], [1, 2], "request 1: input_tokens: 0: must be at least 1"),
        ([0.0, 1.0], [5, 4], [-3, 2], "request 0: output_tokens: -3: must be at least 1"),
        ([0.0, 1.0], [5], [3, 2], "input_tokens: 1 entries: one a request: 2"),
    ],
)
def test_requests_that_cannot_be(arrivals: list[float], given_tokens: list[int], asked: list[int], said: str) -> None:
    with pytest.raises(WorkloadError, match=said.replace("(", r"\(")):
        _requests(arrivals, given_tokens, asked)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: poisson_arrivals(stream(0, "x"), 0.0, 3), "request rate: 0: must be positive"),
        (lambda: gamma_arrivals(stream(0, "x"), 1.0, -2.0, 3), "burstiness: -2: must be positive"),
        (lambda: constant_arrivals(float("inf"), 3), "request rate: inf"),
        (lambda: uniform_lengths(stream(0, "x"), 10, 1.5, 3), "range_ratio: 1.5: must be above 0 and at most 1"),
        (lambda: fixed_lengths(0, 3), "tokens: 0: must be at least 1"),
        (lambda: closed_loop(0, input_tokens=5, output_tokens=5), "prompts: 0"),
        (lambda: closed_loop(0, input_tokens=5, output_tokens=5, prompts=3), "concurrency: 0: must be at least 1"),
        (lambda: closed_loop(2, input_tokens=5, output_tokens=5, warmups=-1), "warm-ups: -1: must not be negative"),
    ],
)
def test_bad_settings(call: object, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        call()  # type: ignore[operator]
