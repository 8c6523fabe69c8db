"""Fleets that are queues of theory: M/M/c against Erlang C; capacity that more replicas never lower."""

from math import factorial

import numpy as np
import pytest
from fleet_cases import Fixed, mixed, policy
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.fleet import serve_fleet
from simulator.engine.fleet_spec import Fleet, MasterSpec, ReplicaSpec
from simulator.workload import Requests, closed_loop, poisson_arrivals, stream

STEP_S = 1e-3


def erlang_c(servers: int, load: float) -> float:
    """Probability that all of c servers are busy (Erlang 1917; Kleinrock, Queueing Systems I, 1975, section 3.5)."""
    last = load**servers / factorial(servers) * servers / (servers - load)
    return last / (sum(load**k / factorial(k) for k in range(servers)) + last)


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.6), (4, 0.7), (8, 0.8)])
def test_a_replica_of_c_sequences_and_even_steps_is_an_m_m_c_queue(servers: int, busy: float) -> None:
    """Answers of exponential length, every step as long whatever the batch: c servers of mean time 60 steps."""
    count, mean = 40_000, 60.0
    rate = busy * servers / (mean * STEP_S)
    asked = np.ceil(stream(2, "answers").exponential(mean, count)).astype(np.int64)
    work = Requests(poisson_arrivals(stream(2, "arrivals"), rate, count), np.ones(count, dtype=np.int64), asked)
    one = ReplicaSpec("r", Fixed(STEP_S), policy("vllm", max_sequences=servers), 100_000)
    served = serve_fleet(work, Fleet((one,)), log=False)
    service = float(asked.mean()) * STEP_S
    load = rate * service
    theory = erlang_c(servers, load) * service / (servers - load)
    # The first token comes with the first step, which begins at a step boundary: half a step later in the mean where
    # steps are running, at once where none are.
    wait = float((served.first_token_s - served.arrival_s).mean()) - STEP_S
    assert wait == pytest.approx(theory, rel=0.09, abs=0.6 * STEP_S)


@settings(max_examples=12, deadline=None)
@given(
    engine=st.sampled_from(["vllm", "sglang", "tensorrt-llm"]), clients=st.integers(4, 24),
    given_tokens=st.integers(20, 600), asked=st.integers(5, 120), replicas=st.integers(1, 3),
)  # fmt: skip
def test_one_more_replica_never_lowers_capacity(
    engine: str, clients: int, given_tokens: int, asked: int, replicas: int
) -> None:
    """Clients of a closed loop are done no later (requests alike, dealt in turns)."""
    loop = closed_loop(clients, input_tokens=given_tokens, output_tokens=asked, prompts=4 * clients)
    ends = [
        float(serve_fleet(loop, Fleet(mixed(count, engine), (MasterSpec("m", "least_loaded"),))).finish_s.max())
        for count in (replicas, replicas + 1)
    ]
    assert ends[1] <= ends[0] * (1 + 1e-9)
