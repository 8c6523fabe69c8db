"""The command line as a user meets it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulator.cli import app

SMALL = """\
name: small
description: A small model on two GPUs
model: tiny.json
topology: dgx_h100
layout: {tp: 2}
workload: {sequences: 3, prompt_tokens: 50, decode_steps: 2}
numbers: {prompt_lengths: [4, 3], decode_steps: 2}
"""
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 100, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
    return tmp_path


def shardsim(folder: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    """In this process, which spares the start of a hundred interpreters."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status, result.stderr
    return result.stdout, result.stderr


def process(folder: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    """As a user runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "simulator", *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def refused(folder: Path, *arguments: str) -> str:
    """One line on stderr, status 2, and nothing new on disk."""
    before = sorted(path.name for path in folder.rglob("*"))
    out, err = shardsim(folder, *arguments, status=2)
    assert out == ""
    assert err.startswith("shardsim: ")
    assert err.count("\n") == 1
    assert sorted(path.name for path in folder.rglob("*")) == before
    return err


def test_a_run_writes_its_report_and_says_so(folder: Path) -> None:
    out, err = process(folder, "run", "small.yaml", "--set", "workload.sequences=5")
    assert "Fits, computes the right tokens" in out
    assert out.endswith("report: reports/small/index.html\n")
    assert err == ""
    read = json.loads((folder / "reports/small/summary.json").read_text())
    assert read["runs"][0]["facts"]["sequences"] == 5
    assert read["runs"][0]["correct"] is True
    assert "--force" in refused(folder, "run", "small.yaml")
    quiet, _ = shardsim(folder, "run", "small.yaml", "--force", "--quiet", "--tables", "parquet")
    assert quiet == ""
    assert (folder / "reports/small/tables/ops.parquet").exists()
    printed, _ = shardsim(folder, "run", "small.yaml", "--out", "other", "--json", "--set", "numbers=off")
    assert json.loads(printed)["runs"][0]["correct"] is None
    assert json.loads(printed) == json.loads((folder / "other/summary.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["run", "small.yaml", "--set", "layout.tp=3"], "layout.tp: 3: must divide num_attention_heads = 4; use 1, 2"),
        (["run", "small.yaml", "--set", "layout.tpp=3"], "did you mean tp?"),
        (["run", "small.yaml", "--set", "layout.tp"], "must read path=value"),
        (["run", "small.yaml", "--out", "small.yaml/x"], "is not a folder"),
        (["run", "small.yaml", "--out", "/proc/shardsim"], "cannot be written"),
        (["run", "small.yaml", "--out", ".", "--force"], "is not a report of an earlier run"),
        (["run", "small.yaml", "--tables", "xls"], "must be csv or parquet"),
        (["run", "small.yaml", "--set", "model=meta-llama/Llama-3.1-405B"], "GiB"),
        (["list", "cats"], "use one of topologies, models, gpus, scenarios"),
        (["show", "program", "small.yaml", "--rank", "2"], "has ranks 0 to 1"),
        (["show", "program", "small.yaml", "--pool", "x"], "no such pool"),
        (["topology", "show", "dgx_h1"], "is no file and no shipped topology"),
        (["topology", "show", "small.yaml"], "small.yaml"),
        (["topology", "import", "small.yaml", "--out", "x.yaml"], "begins no format known here"),
        (["topology", "import", "none.txt", "--out", "x.yaml"], "none.txt"),
        (["collectives"], "--topology: is required"),
        (["collectives", "--topology", "dgx_h100", "--op", "gather"], "--op: 'gather': is none of"),
        (["collectives", "--topology", "dgx_h100", "--min", "8 Gbit/s"], "a size is in bytes"),
        (["collectives", "--topology", "dgx_h100", "--min", "8", "--max", "4"], "in order"),
        (["collectives", "--topology", "dgx_h100", "--factor", "1"], "must be more than 1"),
        (["collectives", "--topology", "dgx_h100", "--factor", "nan"], "must be more than 1"),
        (["collectives", "--topology", "dgx_h100", "--gpus", "9"], "--gpus: 9"),
        (["collectives", "--topology", "dgx_h100", "--algorithm", "rong"], "'rong': no such algorithm"),
        (["collectives", "check", "small.yaml", "--topology", "dgx_h100"], "holds no line of figures"),
        (["validate", "--data", "none"], "none"),
    ],
)  # fmt: skip
def test_a_mistake_gives_one_message_and_status_2(folder: Path, arguments: list[str], said: str) -> None:
    assert said in refused(folder, *arguments)


def test_lists_and_schema_are_readable_and_parsable(folder: Path) -> None:
    assert "H100-SXM" in shardsim(folder, "list", "gpus")[0]
    rows = json.loads(shardsim(folder, "list", "topologies", "--json")[0])
    assert {"dgx_h100", "gb200_nvl72"} <= {row["topology"] for row in rows}
    assert "single_node_tp" in shardsim(folder, "list", "scenarios")[0]
    schema = json.loads(shardsim(folder, "schema")[0])
    assert "ScenarioSpec" in schema["$defs"]
    assert "properties" in json.loads(shardsim(folder, "schema", "--topology")[0])


def test_the_program_is_listed(folder: Path) -> None:
    text, _ = shardsim(folder, "show", "program", "small.yaml", "--phase", "prefill")
    assert "layer 1  [micro-batch 0]" in text
    assert "all_reduce" in text


def test_collectives_print_what_collectives_check_reads(folder: Path) -> None:
    table, _ = shardsim(folder, "collectives", "--topology", "dgx_h100", "--gpus", "4", "--min", "1K", "--max", "1G",
                        "--factor", "8", "--plot", "plot.html")  # fmt: skip
    rows = [line.split() for line in table.splitlines() if not line.startswith("#")]
    assert [int(row[0]) for row in rows] == [1024 * 8**i for i in range(7)]
    assert "</html>" in (folder / "plot.html").read_text()
    (folder / "log.txt").write_text(table)
    said, _ = shardsim(folder, "collectives", "check", "log.txt", "--topology", "dgx_h100", "--gpus", "4")
    assert "0 of 7 sizes are lower" in said
    slow = [line if line.startswith("#") else slowed(line) for line in table.splitlines()]
    (folder / "log.txt").write_text("\n".join(slow))
    said, _ = shardsim(folder, "collectives", "check", "log.txt", "--topology", "dgx_h100", "--gpus", "4", status=1)
    assert "7 of 7 sizes are lower" in said


def slowed(line: str) -> str:
    words = line.split()
    words[5:8] = [f"{float(words[5]) * 2:.2f}", *(f"{float(word) / 2:.2f}" for word in words[6:8])]
    return " ".join(words)


@pytest.mark.parametrize("op", ["all_reduce", "all_to_all"])
def test_a_group_of_one_and_an_empty_message_take_no_time(folder: Path, op: str) -> None:
    alone, _ = shardsim(folder, "collectives", "--topology", "dgx_h100", "--gpus", "1", "--max", "64", "--op", op)
    assert alone.count(" 0.00     0.00     0.00") == 4
    empty, _ = shardsim(folder, "collectives", "--topology", "dgx_h100", "--min", "0", "--max", "2", "--op", op)
    rows = [line.split() for line in empty.splitlines() if not line.startswith("#")]
    assert [float(row[0]) for row in rows] == [0.0, 1.0, 2.0]
    assert float(rows[0][5]) == 0.0
    assert float(rows[1][5]) > 1.0


def test_a_topology_is_shown_drawn_and_imported(folder: Path) -> None:
    text, _ = shardsim(folder, "topology", "show", "dgx_h100", "--nodes", "2", "--plot", "t.html")
    assert "16 x H100-SXM" in text
    assert (folder / "t.html").exists()
    matrix = "\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tNV18\t0-31\nGPU1\tNV18\t X \t0-31\n"
    (folder / "topo.txt").write_text(matrix)
    shardsim(folder, "topology", "import", "topo.txt", "--out", "mine.yaml", "--gpu", "H100")
    assert "2 x H100" in shardsim(folder, "topology", "show", "mine.yaml")[0]
    assert "exists" in refused(folder, "topology", "import", "topo.txt", "--out", "mine.yaml", "--gpu", "H100")


def test_help_does_not_load_what_only_a_run_needs(folder: Path) -> None:
    script = (
        "import sys, simulator.cli; print([m for m in ('pandas', 'networkx', 'plotly', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
    assert "run" in process(folder, "--help")[0]
    assert process(folder, "--version")[0].startswith("shardsim ")
    assert "No such command" in process(folder, "rum", status=2)[1]
    assert process(folder, "run", "none.yaml", status=2)[1].startswith("shardsim: none.yaml: no such file")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_no_partial_report(folder: Path, number: int, status: int) -> None:
    command = [sys.executable, "-m", "simulator", "run", "single_node_tp", "--out", str(folder / "out")]
    # A gate that runs in the background hands SIGINT down ignored; a user's terminal does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    time.sleep(1.5)
    os.kill(running.pid, number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == status, err
    assert "Traceback" not in err
    assert sorted(path.name for path in folder.iterdir()) == ["small.yaml", "tiny.json"]
