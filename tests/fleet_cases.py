"""Fleets and workloads that the fleet's tests share: small, uneven, nothing zero."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from simulator.engine.fleet_spec import FaultRate, FaultSpec, Fleet, MasterSpec, ReplicaSpec, TransferSpec
from simulator.serving import Policy, find_policy
from simulator.workload import Requests, poisson_arrivals, stream

KV_BYTES = 70e3


class Simple:
    """A step time with a floor, work by tokens and pairs, and reads of KV."""

    def step_time_s(
        self, prefill_tokens: int, prefill_context: int, decode_sequences: int, decode_kv_tokens: float,
        *, prefill_sequences: int = 1,
    ) -> float:  # fmt: skip
        pairs = prefill_tokens * (prefill_context + prefill_tokens / 2) / prefill_sequences
        return 3e-3 + 2e-5 * prefill_tokens + 1e-9 * pairs + 4e-5 * decode_sequences + 3e-8 * decode_kv_tokens


class Fixed:
    """Every step takes as long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def step_time_s(self, *_: float, **__: float) -> float:
        return self.seconds


def poisson(rate_per_s: float, count: int, given: int, asked: int, seed: int = 0) -> Requests:
    """Uneven lengths up to `given` and `asked`."""
    lengths = stream(seed, "lengths")
    return Requests(
        poisson_arrivals(stream(seed, "arrivals"), rate_per_s, count),
        lengths.integers(5, given, count), lengths.integers(1, asked, count),
    )  # fmt: skip


def policy(engine: str, **changes: object) -> Policy:
    """An engine's policy, changed."""
    return replace(find_policy(engine), **changes)  # type: ignore[arg-type]


def pools(
    engine: str = "sglang", *, tokens: int = 20_000, nic: float = 1e9, masters: tuple[MasterSpec, ...] = (),
    faults: tuple[FaultSpec, ...] = (), rates: tuple[FaultRate, ...] = (), local: int = 0, heartbeat_s: float = 0.3,
    kv_bytes: Callable[[int], float] = lambda tokens: tokens * KV_BYTES, **transfer: object,
) -> Fleet:  # fmt: skip
    """Two prefill replicas of two ranks, two decode replicas of three; each on a node of its own."""
    plan = policy(engine)
    replicas = [
        ReplicaSpec(
            f"{role[0]}{i}", Simple(), plan, tokens // plan.block_tokens, role, role, ranks, ranks,  # type: ignore[arg-type]
            (f"node-{role[0]}{i}",), nic,
        )
        for role, ranks in (("prefill", 2), ("decode", 3))
        for i in range(2)
    ]  # fmt: skip
    move = TransferSpec(kv_bytes, layers=61, **transfer)  # type: ignore[arg-type]
    return Fleet(
        tuple(replicas), masters or (MasterSpec("m0"),), move, faults, rates, heartbeat_s, local
    )  # fmt: skip


def mixed(count: int, engine: str = "vllm", tokens: int = 50_000, **changes: object) -> tuple[ReplicaSpec, ...]:
    """`count` equal mixed replicas."""
    plan = policy(engine)
    one = ReplicaSpec("r0", Simple(), plan, tokens // plan.block_tokens)
    return tuple(replace(one, name=f"r{i}", **changes) for i in range(count))  # type: ignore[arg-type]


def same(first: object, second: object) -> bool:
    """Whether all columns of two runs are equal, missing values included."""
    names = [name for name in first.__dataclass_fields__ if name not in ("outages", "steps")]  # type: ignore[attr-defined]
    return all(
        np.array_equal(np.asarray(getattr(first, n)), np.asarray(getattr(second, n)), equal_nan=True) for n in names
    )
