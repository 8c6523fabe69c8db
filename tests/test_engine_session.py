"""One simulation gives the numbers of the lockstep run and a time that keeps its bounds."""

from collections import defaultdict
from dataclasses import fields, is_dataclass, replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from deployments import DEEPSEEK, LLAMA, MOE, cluster, mixed, parted, short

from simulator.engine import session
from simulator.engine.deployment import Deployment, Numbers, Pool, StepWorkload
from simulator.engine.session import Simulation, simulate
from simulator.engine.step import StepRun
from simulator.errors import DoesNotFitError, LayoutError, NotBuiltError, StalledError
from simulator.hardware.device import Device
from simulator.numeric.generation import generate
from simulator.parallel.layout import Layout
from simulator.program.frame import Options
from simulator.topology.cluster import build_cluster

DEPLOYMENTS: dict[str, Deployment] = {
    "tp": mixed(Layout(tp=8)),
    "tp, sequence parallel": mixed(Layout(tp=4, sequence_parallel=True)),
    "pp": mixed(Layout(pp=2, tp=2, micro_batches=2)),
    "cp": mixed(Layout(cp=2, tp=2)),
    "dp": mixed(Layout(dp=2, tp=2)),
    "ep": mixed(Layout(tp=4, ep=4), MOE),
    "dp_attention": mixed(Layout(dp_attention=8, ep=8), MOE),
    "dp_attention, gathered": mixed(Layout(dp_attention=4, ep=4, moe_dispatch="all_gather"), MOE),
    "latent": mixed(Layout(dp_attention=4, tp=2, ep=8, redundant_experts=8), DEEPSEEK, options=Options("fp8_block")),
    "nodes": mixed(Layout(tp=16), nodes=2),
    "handed over": parted(Layout(tp=4), Layout(tp=2)),
    "handed over to experts": parted(Layout(tp=2, cp=2), Layout(dp_attention=4, ep=4), MOE),
}
NAMES = pytest.mark.parametrize("name", DEPLOYMENTS)


def times(simulation: Simulation) -> list[float]:
    return [step.end_s - step.start_s for step in simulation.steps]


@NAMES
def test_numbers_are_those_of_the_lockstep_run(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    run = simulate(deployment).miniatures[0]
    assert max(run.errors.values()) < 1e-9
    assert [run.sampled[i] for i in run.prompts] == [
        [int(step.next_tokens[i]) for step in run.reference] for i in range(len(run.prompts))
    ]
    prompts = list(run.prompts.values())
    layout = deployment.pools[-1].layout
    assert generate(run.architecture, layout, run.weights, prompts, 3) == [run.sampled[i] for i in run.prompts]


@pytest.mark.parametrize("fidelity", ["auto", "stepwise", "flow", "closed_form"])
@pytest.mark.parametrize("name", ["tp", "pp", "dp_attention", "handed over"])
def test_fidelity_changes_no_number(name: str, fidelity: str) -> None:
    found = simulate(replace(DEPLOYMENTS[name], fidelity=fidelity))  # type: ignore[arg-type]
    base = simulate(DEPLOYMENTS[name]).miniatures[0]
    assert found.miniatures[0].sampled == base.sampled
    assert max(found.miniatures[0].errors.values()) < 1e-9


@NAMES
def test_same_seed_same_log(name: str) -> None:
    deployment = replace(DEPLOYMENTS[name], workload=StepWorkload(5, 64, 1, prompt_tokens_spread=0.5, seed=3))
    one, two = simulate(deployment), simulate(deployment)
    assert one.ops == two.ops
    assert one.steps == two.steps
    assert one.handovers == two.handovers
    assert one.events == two.events
    assert one.links is not None
    assert two.links is not None
    assert one.links.log == two.links.log
    other = simulate(replace(deployment, workload=replace(deployment.workload, seed=4)))
    assert other.ops != one.ops


@NAMES
def test_time_lies_between_the_longer_stream_and_their_sum(name: str) -> None:
    """max(compute, comm) <= T for every rank; T <= sum for the rank that waits for nobody."""
    simulation = simulate(DEPLOYMENTS[name])
    for record in simulation.steps:
        time_s = record.end_s - record.start_s
        busy: dict[int, dict[str, float]] = defaultdict(lambda: {"compute": 0.0, "comm": 0.0})
        for op in simulation.ops:
            if op.step == record.step and op.kind != "send":
                busy[op.rank][op.stream] += op.end_s - op.start_s
        assert all(max(streams.values()) <= time_s * (1 + 1e-9) for streams in busy.values())
        if DEPLOYMENTS[name].pools[0].layout.pp == 1:
            assert time_s <= max(sum(streams.values()) for streams in busy.values()) * (1 + 1e-9)
        assert time_s >= simulation.floors_s[record.step] * (1 - 1e-9)


@NAMES
def test_a_stream_runs_one_op_at_a_time_and_reads_what_is_ready(name: str) -> None:
    simulation = simulate(DEPLOYMENTS[name])
    last: dict[tuple[int, str, str], float] = {}
    for op in sorted(simulation.ops, key=lambda o: (o.start_s, o.end_s)):
        if op.kind == "send":
            continue  # the message is on the wire; the stream is free
        key = (op.rank, op.pool, op.stream)
        assert op.end_s >= op.start_s >= last.get(key, 0.0) - 1e-12
        last[key] = op.end_s


def test_ranks_leave_a_collective_together() -> None:
    simulation = simulate(DEPLOYMENTS["tp"])
    ends = defaultdict(set)
    for op in simulation.ops:
        if op.stream == "comm":
            ends[op.step, op.layer, op.op].add(op.end_s)
    assert ends
    assert all(len(found) == 1 for found in ends.values())


@pytest.mark.parametrize("fidelity", ["auto", "flow"])
def test_time_grows_with_tokens(fidelity: str) -> None:
    layout = Layout(tp=4)
    steps = [
        times(simulate(mixed(layout, fidelity=fidelity, workload=StepWorkload(sequences, tokens, 1))))
        for sequences, tokens in ((2, 128), (2, 512), (8, 512), (8, 2048))
    ]
    prefill, decode = zip(*steps, strict=True)
    assert list(prefill) == sorted(set(prefill))
    assert list(decode) == sorted(decode)
    assert decode[0] < decode[-1]


@pytest.mark.parametrize("fidelity", ["closed_form", "flow", "stepwise"])
def test_time_falls_with_bandwidth(fidelity: str) -> None:
    """Every link of the box twice as fast; nothing else changes."""
    base = cluster("dgx_h100", 2)
    layout = Layout(tp=16)
    found = []
    for factor in (0.5, 1.0, 2.0):
        faster = build_cluster(scaled(base.spec, factor), 2)
        deployment = replace(mixed(layout, nodes=2, numbers=Numbers(enabled=False)), cluster=faster, fidelity=fidelity)
        found.append(times(simulate(deployment))[0])
    assert found[0] > found[1] > found[2]


def scaled(spec: Any, factor: float) -> Any:
    """The same description with every bandwidth times `factor`; the GPU itself stays."""
    if isinstance(spec, tuple):
        return tuple(scaled(item, factor) for item in spec)
    if not is_dataclass(spec) or isinstance(spec, Device):
        return spec
    changes = {}
    for item in fields(spec):
        value = getattr(spec, item.name)
        changes[item.name] = value * factor if item.name == "bandwidth_bytes_per_s" else scaled(value, factor)
    return replace(spec, **changes)


def test_events_are_counted() -> None:
    small, large = (simulate(mixed(Layout(tp=tp))).events for tp in (2, 8))
    assert 0 < small < large
    assert simulate(mixed(Layout(tp=2), numbers=Numbers(enabled=False))).events < small


# ---- pipeline --------------------------------------------------------------------------------------------------


def test_a_stage_starts_when_the_message_is_there() -> None:
    simulation = simulate(mixed(Layout(pp=2, tp=2)))
    sends = [op for op in simulation.ops if op.kind == "send"]
    assert {(op.rank, op.step) for op in sends} == set(product((0, 1), (0, 1, 2)))
    assert all(op.bytes > 0 and op.end_s > op.start_s for op in sends)
    for send in sends:
        mine = [op for op in simulation.ops if op.step == send.step and op.rank == send.rank + 2]
        assert min(op.start_s for op in mine if op.stream == "compute") >= send.end_s


def test_micro_batches_fill_the_pipeline() -> None:
    """Two stages in turn take as long as one; with micro-batches they overlap."""
    big = StepWorkload(16, 2048, 0)
    alone, parted_, filled = (
        times(simulate(mixed(layout, workload=big, numbers=Numbers(enabled=False))))[0]
        for layout in (Layout(), Layout(pp=2), Layout(pp=2, micro_batches=8))
    )
    assert parted_ == pytest.approx(alone, rel=0.05)
    assert alone / 2 < filled < 0.75 * alone


# ---- what cannot be --------------------------------------------------------------------------------------------


def test_a_rank_that_never_joins_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 2 leaves out one all_reduce; the others wait for it for ever."""
    true = StepRun._comm

    def lazy(self: StepRun, rank: object) -> object:
        if rank.rank == 2:  # type: ignore[attr-defined]
            bound = rank.bound  # type: ignore[attr-defined]
            kept = tuple(op for op in bound.comm if op.op.name != "attention_all_reduce" or op.segment.layer != 1)
            rank.bound = replace(bound, comm=kept)  # type: ignore[attr-defined]
        return true(self, rank)  # type: ignore[arg-type]

    monkeypatch.setattr(StepRun, "_comm", lazy)
    with pytest.raises(StalledError) as caught:
        simulate(mixed(Layout(tp=4)))
    told = str(caught.value)
    assert "rank 0 waits in 'attention_all_reduce' (layer 1)" in told
    assert "attention_all_reduce over tp: never came [2]" in told
    assert "step 0 of pool 'serve'" in told


def test_a_message_that_is_never_sent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepRun, "_post", lambda *_: None)
    with pytest.raises(StalledError, match="rank 1 waits in receive from rank 0"):
        simulate(mixed(Layout(pp=2)))


@pytest.mark.parametrize(
    ("deployment", "binds"),
    [
        (mixed(Layout(), short(DEEPSEEK, 10)), "weights bind"),
        (parted(Layout(dp=8), Layout(), short(LLAMA, 8), workload=StepWorkload(1024, 4000, 1)), "KV cache bind"),
    ],
)
def test_what_does_not_fit_says_what_binds(deployment: Deployment, binds: str) -> None:
    with pytest.raises(DoesNotFitError) as caught:
        simulate(deployment)
    assert binds in str(caught.value)
    assert f"pool '{deployment.pools[-1].name}', rank 0" in str(caught.value)
    assert caught.value.way_out


def test_pools_need_roles_that_go_together() -> None:
    deployment = mixed(Layout(tp=2))
    pool = Pool("p", "prefill", Layout(tp=2), (0, 1))
    with pytest.raises(LayoutError, match="one mixed pool, or one prefill and one decode"):
        simulate(replace(deployment, pools=(pool,)))


def test_numbers_that_are_not_built_are_refused() -> None:
    refused = replace(short(LLAMA), numbers_refused="not built")
    with pytest.raises(NotBuiltError, match="numbers: off"):
        simulate(mixed(Layout(tp=2), refused))
    assert simulate(mixed(Layout(tp=2), refused, numbers=Numbers(enabled=False))).steps


def test_prompt_lengths_are_drawn_within_their_spread() -> None:
    work = StepWorkload(400, 1000, 1, prompt_tokens_spread=0.25, seed=1)
    lengths = np.array(session.prompt_lengths(SimpleNamespace(workload=work)))  # type: ignore[arg-type]
    assert lengths.min() >= 750
    assert lengths.max() <= 1000
    assert 860 < lengths.mean() < 890
