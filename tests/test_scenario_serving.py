"""Scenarios with traffic: what they resolve to, and what they refuse, with file, line and field."""

import json
from pathlib import Path

import numpy as np
import pytest
from serving_case import PAIR, SMALL, case

from simulator.engine.deployment import Deployment
from simulator.engine.session import simulate
from simulator.errors import ShardsimError
from simulator.scenario.load import load_scenario
from simulator.scenario.resolve import resolve
from simulator.workload import ClosedLoop

STEPS = "workload: {sequences: 4, prompt_tokens: 9, decode_steps: 1}\n"


def refused(folder: Path, *settings: str, text: str = SMALL) -> str:
    with pytest.raises(ShardsimError) as caught:
        case(folder, *settings, text=text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(folder))
    return message


def test_one_pool_is_one_server(tmp_path: Path) -> None:
    found = case(tmp_path)
    (spec,) = found.fleet.replicas
    assert (spec.name, spec.pool, spec.role, spec.gpus, spec.nodes) == ("pool0", "pool", "mixed", 1, ("node0",))
    assert spec.kv_blocks * spec.policy.block_tokens > 200_000
    assert spec.prefix_block_tokens == 0
    assert len(found.requests) == 60
    assert found.slo is not None
    assert found.slo.limits_ms() == {"ttft": 300.0, "tpot": 30.0}
    assert found.pools[0].usd_per_gpu_hour == 1.78
    assert "SemiAnalysis" in found.pools[0].price_source


def test_replicas_stand_whole_in_nodes_and_nodes_are_as_many_as_needed(tmp_path: Path) -> None:
    pools = "pools=[{name: p, role: prefill, replicas: 3, layout: {tp: 4}}, {name: d, role: decode, layout: {dp: 2}}]"
    found = case(tmp_path, pools)
    specs = {spec.name: spec for spec in found.fleet.replicas}
    assert list(specs) == ["p0", "p1", "p2", "d0", "d1"]
    assert [specs[f"p{i}"].nodes for i in range(3)] == [("node0",), ("node0",), ("node1",)]
    assert specs["d1"].nodes == ("node1",)
    assert "2 nodes" in str(found.facts["Cluster"])
    moved = found.fleet.transfer
    assert moved is not None
    assert moved.layerwise
    # Eight KV heads on four ranks: none is kept twice, so all ranks together move what the model keeps.
    assert moved.kv_bytes(1000) == pytest.approx(1000 * 131_072)


def test_heads_kept_twice_are_moved_twice(tmp_path: Path) -> None:
    pools = "pools=[{name: p, role: prefill, layout: {tp: 16}}, {name: d, role: decode, layout: {tp: 1}}]"
    moved = case(tmp_path, pools).fleet.transfer
    assert moved is not None
    assert moved.kv_bytes(1000) == pytest.approx(2 * 1000 * 131_072)


def test_a_pool_may_stand_on_other_gpus(tmp_path: Path) -> None:
    pools = "pools=[{name: p, role: prefill, layout: {tp: 1}, topology: l40s_pcie}, {name: d, role: decode}]"
    found = case(tmp_path, pools)
    assert [pool.setup.device.name for pool in found.pools] == ["L40S", "H100-SXM"]
    assert [spec.nodes for spec in found.fleet.replicas] == [("p-node0",), ("node0",)]


def test_what_serving_says_is_laid_over_the_engine(tmp_path: Path) -> None:
    found = case(
        tmp_path, "engine=SGLang", "serving={max_batched_tokens: 2048, max_sequences: 17, poll_steps: 5, "
        "speculation: {tokens: 2, acceptance: 0.5, draft_share: 0.1}}", "masters={count: 3, dispatch: 2 ms}",
    )  # fmt: skip
    policy = found.fleet.replicas[0].policy
    assert (policy.name, policy.max_batched_tokens, policy.max_sequences, policy.poll_steps) == ("sglang", 2048, 17, 5)
    assert policy.tokens_per_step == pytest.approx(1.75)
    assert [m.name for m in found.fleet.masters] == ["master0", "master1", "master2"]
    assert {m.dispatch_s for m in found.fleet.masters} == {0.002}


def test_faults_are_named_by_the_parts_of_the_fleet(tmp_path: Path) -> None:
    faults = (
        "faults=[{kind: gpu, target: '3', at: 5 s, repair: 2 s}, {kind: link, target: p1->d0, at: 1 s, speed: 0.5}, "
        "{kind: node, target: [node0], every: 1 h, repair: 60 s}]"
    )
    found = case(tmp_path, PAIR, faults).fleet
    assert [(f.kind, f.target, f.at_s) for f in found.faults] == [("replica", "d1", 5.0), ("link", "p1->d0", 1.0)]
    assert [(r.kind, r.targets, r.mtbf_s, r.repair_s) for r in found.fault_rates] == [("node", ("node0",), 3600, 60)]


@pytest.mark.parametrize(
    ("arrivals", "count"),
    [
        ("{arrivals: constant, rate: 4, requests: 8, input_tokens: 9, output_tokens: 3}", 8),
        ("{arrivals: gamma, rate: 4, burstiness: 0.3, requests: 8, input_tokens: 9, output_tokens: 3}", 8),
        ("{arrivals: constant, rate: 4, duration: 5 s, input_tokens: 9, output_tokens: 3}", 20),
        ("{arrivals: closed_loop, concurrency: 4, input_tokens: 90, output_tokens: 30, range_ratio: 0.8}", 40),
        ("{arrivals: curve, curve: [[0 s, 2], [10 s, 4]], requests: 9, input_tokens: 9, output_tokens: 3}", 9),
        ("{arrivals: day, low_rate: 2, rate: 4, requests: 9, input_tokens: 9, output_tokens: 3}", 9),
        ("{arrivals: poisson, rate: 1, requests: 3, input_tokens: 9, output_tokens: 3, conversation: {turns: 1}}", 3),
    ],
)
def test_all_kinds_of_arrivals(tmp_path: Path, arrivals: str, count: int) -> None:
    found = case(tmp_path, f"traffic={arrivals}")
    assert len(found.requests) == count
    assert isinstance(found.workload, ClosedLoop) == ("closed_loop" in arrivals)


def test_poisson_arrivals_of_a_duration_fill_it(tmp_path: Path) -> None:
    times = case(tmp_path, "traffic.requests=null", "traffic.duration=100 s").requests.arrival_s
    assert 98.0 < times[-1] < 100.1
    assert len(times) == pytest.approx(600, abs=120)


def test_a_trace_brings_times_lengths_and_shared_blocks(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 1000 * i, "input_length": 600 + i, "output_length": 5, "hash_ids": [7, 10 + i]} for i in range(6)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = case(tmp_path, "traffic={arrivals: trace, trace: t.jsonl, requests: 4, speed: 2}")
    assert found.requests.before_s is not None
    sent = found.requests.arrival_s - found.requests.before_s
    np.testing.assert_allclose(sent, [0.0, 0.5, 1.0, 1.5], atol=1e-12)
    assert found.requests.before_s.min() > 0.0
    assert found.fleet.replicas[0].prefix_block_tokens == 512
    off = case(tmp_path, "traffic={arrivals: trace, trace: t.jsonl}", "serving.prefix_cache=false")
    assert off.fleet.replicas[0].prefix_block_tokens == 0


def test_a_trace_beyond_the_context_is_told_with_its_line_or_dropped(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9,400,10\n2023-11-16 18:17:04.9,200000,10\n"
    )
    message = refused(tmp_path, "traffic={arrivals: trace, trace: t.csv}")
    assert "t.csv: line 3: 200000 + 10 tokens: the model's context holds 131072" in message
    assert len(case(tmp_path, "traffic={arrivals: trace, trace: t.csv, too_long: drop}").requests) == 1


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("slo={}", "slo: limits nothing; give ttft, tpot or e2el"),
        ("slo={ttft: fast}", "slo.ttft: 'fast': a time is a number and a unit"),
        ("slo={ttft: 5}", "slo.ttft: 5: must be a time with its unit"),
        ("slo={ttft: null, tpot: 0 ms}", "slo.tpot: '0 ms': must be more than 0"),
        ("masters.count=61", "masters.count: 61: there are 60 requests"),
        ("masters={policy: least_busy}", "masters.policy: 'least_busy': is none of round_robin"),
        ("masters={dispatch: -1 ms}", "masters.dispatch: '-1 ms': must not be negative"),
        ("traffic.rate=0", "traffic.rate: 0: must be more than 0"),
        ("traffic.rate=null", "traffic.rate: nothing: arrivals: poisson needs it"),
        ("traffic.arrivals=poison", "traffic.arrivals: 'poison': must be one of"),
        ("traffic.arrivals=closed_loop", "traffic.concurrency: nothing: arrivals: closed_loop needs it"),
        ("traffic.concurrency=4", "traffic.concurrency: given: arrivals: poisson does not use it"),
        ("traffic.output_tokens=null", "traffic.output_tokens: nothing: is needed"),
        ("traffic.input_tokens=131060", "traffic.input_tokens: 131060 + "),
        ("traffic.input_tokens={mean: 0}", "traffic.input_tokens.mean: 0: must be at least 1"),
        ("traffic.lengths=nowhere.csv", "traffic.lengths: 'nowhere.csv': no such file"),
        ("traffic={arrivals: trace, trace: nowhere}", "traffic.trace: 'nowhere': no such file"),
        ("traffic={arrivals: trace, trace: live.yaml}", "traffic.format: auto: the format of"),
        ("traffic={arrivals: curve, curve: [[0 s, 1], [0 s, 2]], input_tokens: 9, output_tokens: 3}",
         "traffic: rate curve: point 1: 0 s: times ascend"),
        ("engine=Ollama", "engine: 'Ollama': is not described"),
        ("engine={name: vLLM, version: '0.1'}", "engine: 0.1: the first that is described"),
        ("serving={chunked: false}", "serving.chunked: false: needs reserve"),
        ("layout={tp: 3}", "layout.tp: 3: must divide"),
        ("nodes=1", ""),
        ("pools=[{name: p, role: prefill}]", "pools: roles prefill: prefill and decode pools need each other"),
        ("pools=[{name: p}, {name: p}]", "pools[1].name: 'p': is the name of two pools"),
        ("faults=[{kind: gpu, target: '9', at: 1 s}]", "faults[0]: '9': is no gpu of the fleet"),
        ("faults=[{kind: master, target: master7, at: 1 s}]", "is no master of the fleet; did you mean master0?"),
        ("faults=[{kind: node, target: node0}]", "faults[0]: has either `at` or `every`"),
        ("faults=[{kind: node, target: node0, every: 1 h}]", "faults[0]: faults by chance need `repair`"),
        ("faults=[{from: a, to: b}]", "faults[0]: a to b: links with traffic are named by replicas"),
        ("prices={kind: lottery}", "prices: prices.kind: 'lottery': is none of rental"),
        ("traffic.conversation={turns: 2, retrieval: {documents: 2, count: 3, tokens: 9}}",
         "traffic: retrieval: 3 of 2 documents"),
    ],
)  # fmt: skip
def test_one_clear_message_for_each_mistake(tmp_path: Path, setting: str, said: str) -> None:
    if not said:
        case(tmp_path, setting)
        return
    assert said in refused(tmp_path, setting)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL + "numbers: on\n", "`numbers` changes nothing without `workload`"),
        (SMALL + "memory_margin: 0.2\n", "`memory_margin` changes nothing without `workload`"),
        (SMALL[: SMALL.index("traffic")] + "slo: {ttft: 1 s}\n" + STEPS, "`slo` changes nothing without `traffic`"),
        (
            SMALL[: SMALL.index("traffic")] + "faults: [{kind: node, target: node0, at: 1 s}]\n" + STEPS,
            "`faults: kind`",
        ),
        (SMALL[: SMALL.index("layout")] + "pools: [{name: p, replicas: 2}]\n" + STEPS, "`pools[0]: replicas"),
    ],
)
def test_what_changes_nothing_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text=text)
    case(tmp_path, "numbers=off")


def test_more_replicas_than_the_nodes_hold(tmp_path: Path) -> None:
    message = refused(tmp_path, "nodes=1", "pools=[{name: p, replicas: 3, layout: {tp: 4}}]")
    assert "pools[0].replicas: 3 replicas of 4 GPUs: 0 of the 8 GPUs" in message


def test_a_model_that_leaves_no_room_for_kv_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, text=SMALL.replace("Llama-3.1-8B", "Llama-3.1-70B"))
    assert "leave none of" in message


def deployment(folder: Path, *settings: str) -> Deployment:
    path = folder / "steps.yaml"
    path.write_text(
        "model: meta-llama/Llama-3.1-8B\ntopology: dgx_h100\nlayout: {tp: 4}\nnumbers: off\n"
        "workload: {sequences: 16, prompt_tokens: 500, decode_steps: 1}\n"
    )
    return resolve(load_scenario(path, settings).entries[0])


def test_an_engine_changes_what_steps_cost(tmp_path: Path) -> None:
    times = {}
    for engine in ("", "vLLM", "SGLang", "TensorRT-LLM"):
        found = deployment(tmp_path, *([f"engine={engine}"] if engine else []))
        times[engine] = simulate(found).steps[1].end_s
        assert ("Engine" in found.facts) == bool(engine)
    assert len(set(times.values())) >= 3
    assert max(times.values()) < 1.5 * min(times.values())


def test_traffic_alone_has_no_steps(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    path.write_text(SMALL)
    with pytest.raises(ShardsimError, match="has no `workload`, so there is no step to look at"):
        resolve(load_scenario(path).entries[0])
