"""From a checked scenario to a deployment: models, clusters, pools, and what they refuse of each other."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.deployment import Deployment
from simulator.errors import ScenarioError, ShardsimError
from simulator.model.catalogue import find_model
from simulator.parallel.layout import Layout
from simulator.scenario.facts import gpus_text, layout_text
from simulator.scenario.load import load_scenario
from simulator.scenario.placement import parse_gpus
from simulator.scenario.resolve import resolve

MOE = """\
name: small
model: Qwen/Qwen3-30B-A3B
topology: dgx_h100
nodes: 2
workload: {sequences: 9, prompt_tokens: 100, decode_steps: 2, spread: 0.5, seed: 3}
"""
PAIR = "pools=[{name: p, role: prefill, layout: {tp: 4}%s}, {name: d, role: decode, layout: {tp: 2}%s}]"


def deployment(folder: Path, *overrides: str, text: str = MOE) -> Deployment:
    path = folder / "s.yaml"
    path.write_text(text)
    return resolve(load_scenario(path, overrides).entries[0])


def refused(folder: Path, *overrides: str, text: str = MOE) -> str:
    with pytest.raises(ShardsimError) as caught:
        deployment(folder, *overrides, text=text)
    message = str(caught.value)
    assert message.startswith(str(folder / "s.yaml"))
    assert "\n" not in message
    return message.removeprefix(str(folder / "s.yaml"))


def test_one_pool_takes_the_first_gpus(tmp_path: Path) -> None:
    found = deployment(tmp_path, "layout={dp_attention: 4, ep: 4}", "experts.skew=0.5", "experts.dispatch=fp8")
    (pool,) = found.pools
    assert (pool.role, pool.gpus, pool.layout.ep) == ("mixed", (0, 1, 2, 3), 4)
    assert (found.cluster.gpus, found.cluster.nodes) == (16, 2)
    assert (found.workload.sequences, found.workload.prompt_tokens_spread, found.workload.seed) == (9, 0.5, 3)
    assert (found.options.expert_skew, found.options.dispatch_dtype) == (0.5, "fp8")
    assert found.facts["Model"] == "Qwen/Qwen3-30B-A3B"
    assert "50 to 100 prompt tokens" in str(found.facts["Workload"])


def test_pools_take_named_gpus_and_then_the_next_free_ones(tmp_path: Path) -> None:
    first, second = deployment(tmp_path, PAIR % (", gpus: '2-4, 9'", "")).pools
    assert (first.gpus, second.gpus) == ((2, 3, 4, 9), (0, 1))


def test_precision_overrides_the_checkpoint(tmp_path: Path) -> None:
    plain = deployment(tmp_path).architecture.quantization
    assert (plain.weights, plain.experts) == ("bf16", "bf16")
    whole = deployment(tmp_path, "precision=fp8").architecture.quantization
    assert (whole.weights, whole.experts, whole.kv_cache) == ("fp8", "fp8", "bf16")
    part = deployment(tmp_path, "precision={experts: fp4, kv_cache: fp8}").architecture.quantization
    assert (part.weights, part.experts, part.kv_cache) == ("bf16", "nvfp4", "fp8")


def test_a_config_beside_the_scenario_is_a_model(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 100, "rms_norm_eps": 1e-5,
              "max_position_embeddings": 512}  # fmt: skip
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    found = deployment(tmp_path, "model=tiny.json", "layout.tp=2")
    assert (found.architecture.name, len(found.architecture.layers)) == ("tiny", 2)
    (tmp_path / "tiny.json").write_text("{")
    assert "tiny.json: is not JSON" in refused(tmp_path, "model=tiny.json")
    del config["hidden_size"]
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    assert "hidden_size" in refused(tmp_path, "model=tiny.json")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["layout.tp=3"], " (--set layout.tp=3): layout.tp: 3: must divide num_attention_heads = 32; use 1, 2, 4, 8"),
        (["layout.tp=8", "nodes=1", "layout.dp=2"], "layout: 16 ranks: 8 of the 8 GPUs of dgx_h100 (nodes: 1) are free;"
         " set nodes: 2"),
        (["layout={dp_attention: 3, ep: 3}"], "layout.ep: 3: must divide experts + redundant_experts = 128"),
        (["layout={tp: 4, ep: 3}"], "layout.ep: 3: must divide dp_attention * cp * tp = 4; use one of 1, 2, 4"),
        (["layout={tp: 4, ep: 2, moe_tp: 3}"], "layout.moe_tp: 3: ep * moe_tp must equal"),
        (["layout={tp: 999999, dp: 999999, ep: 17}"], "are free; set nodes:"),
        (["layout.pp=16", "model=Qwen/Qwen3-0.6B", "layout.ep=2"], "layout.ep: 2: must divide"),
        ([PAIR % (", gpus: 0-3", ", gpus: '3, 4'")], "pools[1].gpus: GPU 3: is named twice (pool 'p')"),
        ([PAIR % (", gpus: 0-4", "")], "pools[0].gpus: 5 GPUs: the layout of pool 'p' has 4 ranks"),
        ([PAIR % (", gpus: 14-17", "")], "pools[0].gpus: 14-17: the cluster has GPUs 0 to 15"),
        ([PAIR % (", gpus: 3-0", "")], "pools[0].gpus: '3-0': is no GPU and no range"),
        ([PAIR % ("", ""), "pools[1].name=p"], "pools: 'p': is the name of two pools"),
        ([PAIR % ("", ""), "pools[1].role=mixed"], "pools: roles prefill, mixed: pools are one of role mixed, or"),
        ([PAIR % ("", ""), "layout.tp=2"], "layout: a scenario has either `layout` or `pools`"),
        ([PAIR % ("", ""), "pools[1].layout.tp=5"], "pools[1].layout.tp: 5: must divide num_attention_heads"),
        (["topology=dgx_h1000"], "topology: dgx_h1000: is no file and no shipped topology"),
        (["model=Qwen/Qwen9"], "model: 'Qwen/Qwen9': is not a model that ships"),
        (["model=none/config.json"], "no such file"),
        (["workload.prompt_tokens=999999"], "prompt_tokens: 999999 + 2 tokens: Qwen/Qwen3-30B-A3B has max_pos"),
        (["numbers.layers=[0, 48]"], "numbers.layers: 48: Qwen/Qwen3-30B-A3B has layers 0 to 47"),
        (["numbers.checkpoint=none.safetensors"], "numbers.checkpoint: none.safetensors: no such file or folder"),
        (["faults=[{from: node0.nic0, to: leaf0}]"], "faults: fidelity auto: faults are seen by fidelity flow only"),
        (["faults=[{from: node0.nic0, to: leaf9}]", "collectives.fidelity=flow"], "is no link of dgx_h100; did you"),
    ],
)  # fmt: skip
def test_refusals_name_file_field_value_rule_and_way_out(tmp_path: Path, overrides: list[str], said: str) -> None:
    assert said in refused(tmp_path, *overrides)


def test_a_wrong_unit_in_a_topology_file_is_told_with_its_line(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[1] / "topologies" / "dgx_h100.yaml"
    lines = shipped.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "450 GB/s" in text)
    (tmp_path / "mine.yaml").write_text("\n".join(lines).replace("450 GB/s", "900 GB"))
    message = refused(tmp_path, "topology=mine.yaml")
    assert f"mine.yaml:{line}: node.scale_up.bandwidth" in message
    assert "'900 GB': a bandwidth is bytes or bits per second" in message


def test_faults_name_links_by_their_ends(tmp_path: Path) -> None:
    found = deployment(
        tmp_path, "faults=[{from: node1.nic3, to: leaf3, at: 2 ms, factor: 0.25}]", "collectives.fidelity=flow"
    )
    (fault,) = found.faults
    ends = found.cluster.link_source[fault.link], found.cluster.link_destination[fault.link]
    assert [found.cluster.vertex_name(int(end)) for end in ends] == ["node1.nic3", "leaf3"]
    assert (fault.at_s, fault.factor) == (0.002, 0.25)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 40), unique=True, max_size=12))
def test_gpu_ranges_read_back_as_they_are_told(gpus: list[int]) -> None:
    text = gpus_text(tuple(gpus))
    if gpus:
        assert parse_gpus(text, "", 41) == tuple(gpus)
    with pytest.raises(ScenarioError):
        parse_gpus(f"{text}, 41" if gpus else "41", "", 41)


def test_layouts_are_told_by_what_is_cut() -> None:
    order = ("pp", "dp", "dp_attention", "cp", "tp")
    assert layout_text(Layout(tp=4, dp_attention=2, ep=4)) == "tp=4 dp_attention=2 ep=4 moe_tp=2"
    assert layout_text(Layout(pp=2, micro_batches=3, sequence_parallel=True, rank_order=order)) == (
        "pp=2 micro_batches=3 sequence_parallel order pp,dp,dp_attention,cp,tp"
    )


def test_every_shipped_scenario_resolves() -> None:
    for name in ("single_node_tp", "single_node_ep", "multi_node_tp", "multi_node_ep", "pd_disaggregation",
                 "deployment_modes"):  # fmt: skip
        for entry in load_scenario(name).entries:
            found = resolve(entry)
            assert found.facts["Model"] == found.architecture.name
            assert not found.architecture.numbers_refused
    assert (
        find_model("meta-llama/Llama-3.1-70B").name
        == resolve(load_scenario("single_node_tp").entries[0]).architecture.name
    )
