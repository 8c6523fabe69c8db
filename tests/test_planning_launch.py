"""Launch material: flags start as many ranks as were planned, shells and YAML readers take it, the rest is refused."""

import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from simulator.errors import LayoutError, ShardsimError, WorkloadError
from simulator.parallel.layout import Layout
from simulator.planning.launch import ENGINES, Command, PoolLaunch, quoted
from simulator.planning.launch_benchmark import Traffic, benchmark_command
from simulator.planning.launch_engines import router_command, server_commands
from simulator.planning.launch_kubernetes import manifest
from simulator.planning.yaml_text import yaml_text

MODEL = "deepseek-ai/DeepSeek-R1"


def options(words: Sequence[str]) -> dict[str, str]:
    """Flags with what follows them."""
    found: dict[str, str] = {}
    for i, word in enumerate(words):
        if word.startswith("--"):
            found[word] = words[i + 1] if i + 1 < len(words) and not words[i + 1].startswith("--") else ""
    return found


def started(pool: PoolLaunch, command: Command) -> tuple[int, int, int]:
    """(ranks of a server, ranks experts are spread over, attention ranks), read back from the flags."""
    given = options(command.words)
    number = {key: int(value) for key, value in given.items() if value.isdigit()}
    if pool.engine == "vllm":
        block = number["--tensor-parallel-size"] * number.get("--data-parallel-size", 1)
        ep = block if "--enable-expert-parallel" in given else 1
        return block * number.get("--pipeline-parallel-size", 1), ep, number.get("--data-parallel-size", 1)
    if pool.engine == "sglang":
        block, dp = number["--tp-size"], number.get("--dp-size", 1)
        assert ("--enable-dp-attention" in given) == (dp > 1)
        return block * number.get("--pp-size", 1), number.get("--ep-size", 1), dp
    block = number["--tp_size"] * number.get("--cp_size", 1)
    dp = block if "enable_attention_dp: true" in command.files[0][1] else 1
    return block * number.get("--pp_size", 1), number.get("--ep_size", 1), dp


@st.composite
def pools(draw: st.DrawFn) -> PoolLaunch:
    tp, pp, dp_attention = (draw(st.sampled_from(c)) for c in ((1, 2, 4, 8), (1, 2), (1, 2, 8, 16)))
    ep = draw(st.sampled_from([e for e in (1, 2, 8, 16, 32, 64) if (tp * dp_attention) % e == 0]))
    return PoolLaunch(
        name=draw(st.sampled_from(["decode", "p1"])), model=draw(st.sampled_from([MODEL, "/models/my model's $HOME"])),
        engine=draw(st.sampled_from(ENGINES)), role=draw(st.sampled_from(["mixed", "prefill", "decode"])),
        layout=Layout(tp=tp, pp=pp, dp_attention=dp_attention, ep=ep, dp=draw(st.sampled_from([1, 3]))),
        servers=draw(st.integers(1, 5)), gpus_per_node=draw(st.sampled_from([4, 8])),
        kv_dtype=draw(st.sampled_from(["bf16", "fp8"])), max_sequences=draw(st.integers(1, 999)),
    )  # fmt: skip


@given(pools())
@settings(max_examples=150, deadline=None)
def test_flags_start_the_planned_ranks(pool: PoolLaunch) -> None:
    layout = pool.layout
    try:
        commands = server_commands(pool)
    except LayoutError:
        mixed_attention = layout.dp_attention > 1 and (layout.tp > 1 or layout.pp > 1)
        cut_experts = layout.ep not in (1, layout.block)
        assert (pool.engine == "vllm" and (cut_experts or mixed_attention)) or (
            pool.engine == "tensorrt-llm" and mixed_attention
        )
        return
    for command in commands:
        assert started(pool, command) == (layout.pp * layout.block, layout.ep, layout.dp_attention)
        assert command.words.count(pool.model) == 1
    spread = pool.nodes > 1 and pool.engine != "tensorrt-llm"
    assert len(commands) == (2 if spread else 1)
    given_flags = options(commands[0].words)
    if pool.engine == "sglang":  # it divides both by dp-size
        assert int(given_flags["--max-running-requests"]) // layout.dp_attention == pool.max_sequences
    fp8 = "fp8" in " ".join(commands[0].words) + "".join(content for _, content in commands[0].files)
    assert fp8 == (pool.kv_dtype == "fp8")


@given(pools())
@settings(max_examples=25, deadline=None)
def test_a_shell_reads_back_the_words(pool: PoolLaunch) -> None:
    try:
        command = server_commands(pool)[-1]
    except LayoutError:
        return
    line = " ".join(quoted(word) for word in command.words)
    script = f'HOME=/wrong; LEADER=first NODE=3; printf "%s\\n" {line}'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    filled = [w.replace("$LEADER", "first").replace("$NODE", "3") for w in command.words]
    for i, word in enumerate(filled):
        if word.startswith("$((NODE"):
            filled[i] = str(3 * int(word.split("*")[1].strip(" )")))
    assert said == filled
    assert subprocess.run(["sh", "-n"], input=command.text(), text=True, check=False).returncode == 0


def documents(text: str) -> list[Any]:
    return list(YAML(typ="safe").load_all(text))


@given(pools(), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_a_manifest_asks_for_the_planned_gpus(pool: PoolLaunch, servers: int) -> None:
    fields = {name: getattr(pool, name) for name in PoolLaunch.__dataclass_fields__}
    roles = ["mixed"] if pool.role == "mixed" else ["prefill", "decode"]
    asked = [PoolLaunch(**{**fields, "role": r, "name": r, "servers": servers + (r == "decode")}) for r in roles]
    try:
        objects = documents(manifest(asked))
    except LayoutError:
        return
    gpus = 0
    for each in objects:
        spec = each["spec"]
        template = spec.get("leaderWorkerTemplate")
        if template:
            limits = [t["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
                      for t in (template["leaderTemplate"], template["workerTemplate"])]  # fmt: skip
            gpus += spec["replicas"] * (limits[0] + (template["size"] - 1) * limits[1])
        elif each["kind"] in ("Deployment", "StatefulSet"):
            container = spec["template"]["spec"]["containers"][0]
            gpus += spec["replicas"] * container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0)
            matched = spec["selector"]["matchLabels"].items()
            assert matched <= spec["template"]["metadata"]["labels"].items()
    assert gpus == sum(p.layout.ranks * p.servers for p in asked)
    service = next(each for each in objects if each["kind"] == "Service" and each["metadata"]["name"] == "llm")
    wanted = service["spec"]["selector"].items()
    tops = [each["spec"].get("template") or each["spec"].get("leaderWorkerTemplate", {}).get("leaderTemplate")
            for each in objects]  # fmt: skip
    behind = [t for t in tops if t and wanted <= t["metadata"]["labels"].items()]
    assert len(behind) == 1, "users reach exactly one kind of pod"
    assert behind[0]["spec"]["containers"][0]["name"] == ("engine" if roles == ["mixed"] else "router")


ODD = [
    "no",
    "0x1f",
    "1e3",
    "2026-11-23",
    "~",
    "a: b",
    "- x",
    "$((NODE * 2))",
    "null",
    "a #b",
    "=",
    "<<",
    "1_000",
    "0o7",
]
TEXT = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=12) | st.sampled_from(ODD)
BLOCKS = st.sampled_from(["a\nb\n", "  lead\n\nx", "a\n\n\n", "#x\n- y"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXT | BLOCKS | st.integers(-9, 99) | st.booleans() | st.none() | st.sampled_from([0.9, 1e-7]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_yaml_reader_reads_back_the_values(value: dict[str, Any]) -> None:
    assert YAML(typ="safe").load(yaml_text(value)) == value


def test_several_nodes_of_vllm_and_sglang() -> None:
    layout = Layout(dp_attention=32, ep=32)
    pool = PoolLaunch("decode", MODEL, "vllm", layout, role="decode", kv_dtype="fp8")
    first, other = server_commands(pool)
    assert "--headless" in other.words
    assert "--headless" not in first.words
    assert options(other.words)["--data-parallel-start-rank"] == "$((NODE * 8))"
    assert options(first.words)["--all2all-backend"] == "deepep_low_latency"
    assert json.loads(options(first.words)["--kv-transfer-config"])["kv_connector"] == "NixlConnector"
    first, other = server_commands(PoolLaunch("p", MODEL, "sglang", layout, role="prefill"))
    assert options(first.words)["--disaggregation-mode"] == "prefill"
    assert options(first.words)["--chunked-prefill-size"] == str(8192 * 32)
    assert options(first.words)["--node-rank"] == "$NODE"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_router_knows_every_server(engine: Any) -> None:
    prefill = PoolLaunch("prefill", MODEL, engine, Layout(tp=8), servers=3, role="prefill")
    decode = PoolLaunch("decode", MODEL, engine, Layout(tp=4), servers=2, role="decode")
    urls = [[f"http://{p.name}-{i}:8000" for i in range(p.replicas)] for p in (prefill, decode)]
    command = router_command(prefill, decode, urls)
    whole = " ".join(command.words) + "".join(content for _, content in command.files)
    assert all(whole.count(url.removeprefix("http://")) == 1 for side in urls for url in side)


@pytest.mark.parametrize(
    ("engine", "layout", "named"),
    [
        ("vllm", Layout(tp=8, ep=4), "ep"),
        ("vllm", Layout(tp=16, dp_attention=2), "tp"),
        ("vllm", Layout(tp=2, cp=2), "cp"),
        ("tensorrt-llm", Layout(tp=2, dp_attention=4), "dp_attention"),
    ],
)
def test_what_an_engine_cannot_start_is_refused(engine: Any, layout: Layout, named: str) -> None:
    with pytest.raises(LayoutError) as refused:
        server_commands(PoolLaunch("pool", MODEL, engine, layout))
    assert refused.value.where == f"pool.layout.{named}"


@pytest.mark.parametrize("draft", ["", "$DRAFT_MODEL"])
@pytest.mark.parametrize("engine", ENGINES)
def test_drafted_tokens_are_asked_for(engine: Any, draft: str) -> None:
    pool = PoolLaunch("serve", MODEL, engine, Layout(tp=8), drafted_tokens=3, draft_model=draft)
    (command,) = server_commands(pool)
    (plain,) = server_commands(PoolLaunch("serve", MODEL, engine, Layout(tp=8)))
    assert not {w for w in plain.words if "specul" in w}
    if engine == "vllm":
        told = json.loads(options(command.words)["--speculative-config"])
        assert told == {"num_speculative_tokens": 3} | (
            {"method": "draft_model", "model": draft} if draft else {"method": "mtp"}
        )
    elif engine == "sglang":
        given = options(command.words)
        assert (given["--speculative-num-steps"], given["--speculative-num-draft-tokens"]) == ("3", "4")
        assert given.get("--speculative-draft-model-path", "") == draft
    else:
        (config,) = documents(command.files[0][1])
        told = config["speculative_config"]
        assert told.get("num_nextn_predict_layers", told.get("max_draft_len")) == 3
        assert told.get("speculative_model_dir", "") == draft


def test_two_batch_overlap_is_switched_on_or_said_to_have_no_switch() -> None:
    layout = Layout(dp_attention=8, ep=8)
    texts = [server_commands(PoolLaunch("s", MODEL, e, layout, two_batch_overlap=True))[0].text() for e in ENGINES]
    for text, said in zip(texts, ("--enable-dbo", "--enable-two-batch-overlap", "has no switch"), strict=True):
        assert said in text


def test_pools_that_do_not_go_together_are_refused() -> None:
    prefill = PoolLaunch("prefill", MODEL, "vllm", Layout(tp=8), role="prefill")
    with pytest.raises(LayoutError):
        manifest([prefill])
    with pytest.raises(LayoutError):
        manifest([prefill, PoolLaunch("decode", MODEL, "sglang", Layout(tp=8), role="decode")])
    with pytest.raises(LayoutError):
        manifest([PoolLaunch("No_Such_Name", MODEL, "vllm", Layout())])
    with pytest.raises(ShardsimError):
        PoolLaunch("pool", MODEL, "vllm", Layout(tp=12), gpus_per_node=8)


def test_the_benchmark_replays_the_traffic() -> None:
    limits = {"ttft": 500.0, "tpot": 40.0}
    command = benchmark_command(Traffic(1100, 210, rate_per_s=5.53, burstiness=0.4, goodput_ms=limits), MODEL)
    said = options(command.words)
    assert (said["--request-rate"], said["--burstiness"], said["--num-prompts"]) == ("5.53", "0.4", "1659")
    assert "ttft:500 tpot:40" in shlex.join(command.words)
    closed = options(benchmark_command(Traffic(922, 922, clients=64, spread=1 / 9), MODEL).words)
    assert (closed["--max-concurrency"], closed["--num-prompts"], closed["--request-rate"]) == ("64", "640", "inf")
    low, high = (922 * (1 + s * float(closed["--random-range-ratio"])) for s in (-1, 1))
    assert low == pytest.approx(0.8 * 1024, rel=2e-3), "uniform in [0.8 L, L] of L = 1,024"
    assert high == pytest.approx(1024, rel=2e-3)
    trace = options(benchmark_command(Traffic(0, 0, trace="day one.jsonl"), MODEL).words)
    assert trace["--timed-trace-chunk-hash-size"] == "512"
    assert "'day one.jsonl'" in benchmark_command(Traffic(0, 0, trace="day one.jsonl"), MODEL).text()


@pytest.mark.parametrize("bad", [{}, {"rate_per_s": 1.0, "clients": 2}, {"rate_per_s": 1.0, "spread": 1.0}])
def test_traffic_that_is_none_or_two_kinds_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(WorkloadError):
        Traffic(100, 100, **bad)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_draft_models_name_reaches_the_engine(engine: Any, tmp_path: Path) -> None:
    """Run as a shell would, the engine replaced by something that prints what it was given."""
    pool = PoolLaunch("serve", MODEL, engine, Layout(tp=8), drafted_tokens=2, draft_model="$DRAFT_MODEL")
    (command,) = server_commands(pool)
    name = command.words[0]
    told = f"{name}() {{ printf '%s\\n' \"$@\"; cat trtllm.yaml 2>/dev/null; }}\n{command.text()}\n"
    ran = {"capture_output": True, "text": True, "cwd": tmp_path, "check": False}
    said = subprocess.run(["bash", "-c", told], env={"PATH": "/bin:/usr/bin", "DRAFT_MODEL": "my/draft"}, **ran)
    assert said.stdout.count("my/draft") == 1
    assert "DRAFT_MODEL" not in said.stdout
