"""Bad input of live serving at the command line: one clear line with file and line or field, exit status 2."""

import json
from pathlib import Path

import pytest
from test_cli import CONFIG, refused

LIVE = """\
name: live
model: tiny.json
topology: dgx_h100
layout: {tp: 1}
traffic:
  arrivals: poisson
  rate: 4
  requests: 20
  input_tokens: 100
  output_tokens: 20
"""
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6,100,10\n2023-11-16 18:15:47.1,{},10\n"
TRACE = "traffic={arrivals: trace, trace: t.csv}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "live.yaml").write_text(LIVE)
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        (AZURE.format("many"), "t.csv: line 3: ContextTokens: 'many'"),
        (AZURE.format("-4"), "t.csv: line 3: ContextTokens: '-4': must be a whole number of at least 1"),
        (AZURE.format("0"), "t.csv: line 3: ContextTokens: '0'"),
        (AZURE.format("50").replace("47.1", "45.1"), "t.csv: line 3: -1.5 s after 0 s: times must not go back"),
        (AZURE.format("50").replace("2023-11-16 18:15:47.1", "noon"), "t.csv: line 3: 'noon': is no time"),
        (AZURE.format("5000"), "t.csv: line 3"),
        (AZURE.format("50,7,8"), "t.csv: line 3"),
        ("TIMESTAMP,ContextTokens\n1,2\n", "t.csv"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "t.csv"),
    ],
)
def test_a_bad_trace_is_told_with_its_line(folder: Path, trace: str, said: str) -> None:
    (folder / "t.csv").write_text(trace)
    assert said in refused(folder, "run", "live.yaml", "--set", TRACE)


MOONCAKE = '{{"timestamp": 0, "input_length": 100, "output_length": 5, "hash_ids": [1]}}\n{}\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"timestamp": 5, "input_length": -3, "output_length": 5, "hash_ids": []}', "t.jsonl: line 2: input_length"),
        (
            '{"timestamp": -5, "input_length": 3, "output_length": 5, "hash_ids": [1]}',
            "t.jsonl: line 2: -0.005 s after 0 s: times must not go back",
        ),
        ('{"timestamp": 5, "input_length": 3', "t.jsonl: line 2"),
        ('{"timestamp": 5, "input_length": 3, "hash_ids": [1]}', "t.jsonl: line 2"),
    ],
)
def test_a_bad_line_of_json_is_told_with_its_number(folder: Path, line: str, said: str) -> None:
    (folder / "t.jsonl").write_text(MOONCAKE.format(line))
    assert said in refused(folder, "run", "live.yaml", "--set", "traffic={arrivals: trace, trace: t.jsonl}")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("traffic.input_tokens=-5", "live.yaml"),
        ("traffic.input_tokens=0", "traffic.input_tokens"),
        ("traffic.output_tokens={mean: -1}", "traffic.output_tokens.mean"),
        ("traffic.input_tokens=600", "600 + 20 tokens of request 0"),
        ("traffic.rate=-1", "traffic.rate"),
        ("traffic.curve=[[5 s, 1.0], [2 s, 3.0]]", "traffic.curve"),
        ("slo={ttft: fast}", "slo.ttft"),
        ("slo={ttft: 200}", "slo.ttft"),
        ("slo={share: 0.9}", "limits nothing; give ttft, tpot or e2el"),
        ("slo={ttft: 0 s}", "slo.ttft"),
        ("masters={count: 21}", "masters.count: 21: there are 20 requests: a master would have nothing to do"),
        ("masters={policy: best}", "masters.policy: 'best': is none of round_robin"),
        ("faults=[{kind: gpu, target: 99, at: 1 s}]", "faults[0].target"),
        ("faults=[{kind: gpu, target: '99', at: 1 s}]", "faults[0]"),
        ("faults=[{kind: nic, target: r0, every: 1 h}]", "need `repair`"),
        (
            "serving={kv_tiers: [{name: host, size: 4 GiB}]}",
            "serving.kv_tiers[0]: host: holds blocks of a prefix cache",
        ),
        ("serving={kv_tiers: [{name: host, size: lots}]}", "serving.kv_tiers[0].size"),
        ("serving={kv_tiers: [{name: host, size: 1 B}], prefix_cache: true}", "holds no block of"),
        ("serving={swap_space: 4 GiB}", "has swap_space, which only preempt: swap uses"),
        ("serving={preempt: drop}", "serving.preempt"),
        ("traffic.classes=[{name: a, share: 0}]", "traffic.classes[0].share"),
        ("traffic.classes=[{name: a, share: 1}, {name: a, share: 1}]", "is the name of two classes"),
    ],
)
def test_a_bad_field_is_told_with_its_place(folder: Path, setting: str, said: str) -> None:
    assert said in refused(folder, "run", "live.yaml", "--set", setting)
