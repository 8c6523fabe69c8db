"""Scenario files: what is refused, with which words, and what a comparison is made of."""

from pathlib import Path

import pytest

from simulator.errors import ScenarioError
from simulator.scenario.load import find_scenario, list_scenarios, load_scenario, schema_json

BASE = """\
name: small
model: Qwen/Qwen3-30B-A3B
topology: dgx_h100
layout: {dp_attention: 4, ep: 4}
workload:
  sequences: 9
  prompt_tokens: 100
  decode_steps: 2
"""
COMPARISON = """\
name: two
base:
  model: Qwen/Qwen3-30B-A3B
  topology: dgx_h100
  workload: {sequences: 9, prompt_tokens: 100, decode_steps: 2}
compare:
  - name: tp
    set:
      layout: {tp: 4}
  - name: ep
    scenario: small.yaml
    set:
      layout.ep: 2
"""


def write(folder: Path, text: str = BASE, name: str = "small.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(folder: Path, *settings: str, text: str = BASE) -> str:
    path = write(folder, text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path, settings)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


def test_a_scenario_loads_with_its_defaults(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path))
    (entry,) = scenario.entries
    assert (scenario.name, scenario.comparison) == ("small", False)
    assert entry.spec.layout is not None
    assert (entry.spec.layout.ep, entry.spec.layout.tp, entry.spec.memory_margin) == (4, 1, 0.1)
    assert entry.folder == tmp_path


def test_a_file_without_a_name_is_named_after_itself(tmp_path: Path) -> None:
    assert load_scenario(write(tmp_path, BASE.removeprefix("name: small\n"), "other.yaml")).name == "other"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("layout.tpp=4", "layout.tpp: unknown key; did you mean tp?"),
        ("wrkload.x=1", "wrkload: unknown key; did you mean workload?"),
        ("layout.tp=0", "layout.tp: 0: must be at least 1"),
        ("layout.tp=-2", "layout.tp: -2: must be at least 1"),
        ("layout.tp=4.5", "layout.tp: 4.5: must be a whole number"),
        ("layout.tp='4'", "layout.tp: '4': must be a whole number"),
        ("layout.tp=true", "layout.tp: true: must be a whole number"),
        ("layout.tp=99999999999", "layout.tp: 99999999999: must be at most"),
        ("layout.rank_order=[tp, tq, dp, cp, pp]", "layout.rank_order[1]: 'tq': must be one of dp, pp"),
        ("layout.moe_dispatch=broadcast", "layout.moe_dispatch: 'broadcast': must be one of 'auto'"),
        ("workload.spread=.nan", "workload.spread: nan: must be"),
        ("workload.spread=.inf", "workload.spread: inf: must be"),
        ("workload.spread=-0.5", "workload.spread: -0.5: must be at least 0"),
        ("workload.spread=1", "workload.spread: 1: must be less than 1"),
        ("workload.sequences=0", "workload.sequences: 0: must be at least 1"),
        ("traffic={arrivals: poison}", "traffic.arrivals: 'poison': must be one of"),
        ("memory_margin=10 GiB", "memory_margin: '10 GiB': must be a number"),
        ("memory_margin=true", "memory_margin: true: must be a number"),
        ("precision=fp9", "precision: 'fp9': is not a storage type; use one of"),
        ("precision.weights=7", "precision.weights: 7: must be text"),
        ("precision.wieghts=fp8", "precision.wieghts: unknown key; did you mean weights?"),
        ("experts.dispatch=fp7", "experts.dispatch: 'fp7': must be one of bf16"),
        ("experts.skew=-1", "experts.skew: -1: must be at least 0"),
        ("collectives.algorithms.all_reduce=rong", "'rong' is no algorithm for all_reduce; use ring"),
        ("collectives.algorithms.allreduce=ring", "'allreduce': must be one of 'all_reduce'"),
        ("numbers.dtypes=[float16]", "numbers.dtypes[0]: 'float16': must be one of 'float64'"),
        ("numbers.prompt_lengths=[]", "numbers.prompt_lengths: a list of 0: must have at least 1"),
        ("name=a/b", "name: 'a/b': must be a plain name"),
        ("model=7", "model: 7: must be text"),
        ("pools=[{name: a, rolle: mixed}]", "pools[0].rolle: unknown key; did you mean role?"),
        ("faults=[{from: a, to: b, at: 5 GB}]", "faults[0].at: '5 GB': a time is in one of"),
        ("faults=[{from: a, to: b, at: -5 ms}]", "faults[0].at: '-5 ms': must not be negative"),
    ],
)
def test_one_clear_message_for_each_mistake(tmp_path: Path, setting: str, said: str) -> None:
    message = refused(tmp_path, setting)
    assert said in message
    assert message.startswith(" (--set ")


def test_mistakes_in_the_file_are_told_with_their_line(tmp_path: Path) -> None:
    assert refused(tmp_path, text=BASE.replace("sequences", "sequenses")).startswith(
        ":6: workload.sequenses: unknown key (and 1 more problem); did you mean sequences?"
    )
    assert refused(tmp_path, text=BASE.replace("model: Qwen/Qwen3-30B-A3B\n", "")).startswith(": model: is required")
    assert refused(tmp_path, text=BASE.replace(": 100", ": -100")).startswith(
        ":7: workload.prompt_tokens: -100: must be"
    )
    assert refused(tmp_path, text=BASE + "model: again\n").startswith(':9: duplicate key "model"')


def test_numbers_can_be_switched_off(tmp_path: Path) -> None:
    for value in ("off", "false", "{enabled: false}"):
        assert not load_scenario(write(tmp_path), [f"numbers={value}"]).entries[0].spec.numbers.enabled


def test_a_comparison_lays_fields_over_its_base_or_another_file(tmp_path: Path) -> None:
    write(tmp_path)
    scenario = load_scenario(write(tmp_path, COMPARISON, "two.yaml"), ["workload.sequences=5"])
    first, second = (entry.spec for entry in scenario.entries)
    assert scenario.comparison
    assert (first.name, second.name) == ("tp", "ep")
    assert first.layout is not None
    assert second.layout is not None
    assert (first.layout.tp, second.layout.dp_attention, second.layout.ep) == (4, 4, 2)
    assert first.workload.sequences == second.workload.sequences == 5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("scenario: small.yaml", "scenario: none.yaml", ":11: compare[1].scenario: none.yaml: no such file"),
        ("scenario: small.yaml", "scenario: two.yaml", ":11: compare[1].scenario: two.yaml: is a comparison itself"),
        ("name: ep", "name: tp", ":10: compare[1].name: 'tp': is the name of another variant"),
        ("layout: {tp: 4}", "layout: {tpp: 4}", ":9: compare[0].set.layout: layout.tpp: unknown key"),
        ("layout.ep: 2", "layout..ep: 2", ":13: compare[1].set.layout..ep: 'layout..ep': is no path"),
        ("layout.ep: 2", "layout.ep: 0", ":13: compare[1].set.layout.ep: layout.ep: 0: must be at least 1"),
    ],
)
def test_mistakes_in_comparisons(tmp_path: Path, old: str, new: str, said: str) -> None:
    write(tmp_path)
    path = write(tmp_path, COMPARISON.replace(old, new), "two.yaml")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert str(caught.value).startswith(f"{path}{said}")


def test_a_variant_needs_something_to_start_from(tmp_path: Path) -> None:
    assert "has nothing to start from" in refused(tmp_path, text="compare: [{name: a}]\n")


def test_missing_files_are_told_with_what_ships(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"no such file.*single_node_tp"):
        load_scenario(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="is a folder"):
        load_scenario(tmp_path)


def test_shipped_scenarios_are_found_by_name_and_all_load() -> None:
    assert {"single_node_tp", "single_node_ep", "multi_node_tp", "multi_node_ep", "pd_disaggregation"} <= set(
        list_scenarios()
    )
    for name in list_scenarios():
        scenario = load_scenario(name)
        assert scenario.name == name
        assert scenario.description
        assert find_scenario(f"{name}.yaml") == find_scenario(name)


def test_the_schema_names_every_field() -> None:
    schema = schema_json()
    spec = schema["$defs"]["ScenarioSpec"]
    assert spec["additionalProperties"] is False
    assert {"model", "topology", "pools", "workload", "numbers"} <= set(spec["properties"])
    assert schema["$defs"]["LayoutSpec"]["properties"]["tp"]["minimum"] == 1
    assert {part["$ref"].rsplit("/", 1)[-1] for part in schema["anyOf"]} == {"ScenarioSpec", "ComparisonSpec"}
