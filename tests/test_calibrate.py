"""Calibrating with a table of one's own, and running with it, as a user meets it."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from simulator.cli import app
from simulator.commands.measured import using
from simulator.cost import kernel
from simulator.cost.kernel import index
from simulator.cost.kernel.measured import Tables
from simulator.hardware.catalogue import find_device

SCENARIO = """\
name: small
model: tiny.json
topology: dgx_h100
layout: {tp: 2}
workload: {sequences: 3, prompt_tokens: 50, decode_steps: 2}
numbers: "off"
"""
CONFIG = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 1024, "vocab_size": 1000, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
}  # fmt: skip
SLOW = 40.0
"""Measured over modelled: so slow that a run which uses it cannot be mistaken."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SCENARIO)
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
    device = find_device("H100-SXM")
    found = []
    for m in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        for n in (256, 512, 1024, 2048):
            for k in (256, 512, 1024):
                time_s = kernel.gemm(device, m, n, k, "bf16").time_s * SLOW
                found.append({"op": "gemm", "m": m, "n": n, "k": k, "dtype": "bf16", "time_s": time_s})
    found[7]["time_s"] = 1e-10
    pd.DataFrame(found).to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path


def shardsim(folder: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status, result.stderr
    return result.stdout, result.stderr


def duration_s(folder: Path, *arguments: str) -> tuple[float, dict[str, Any]]:
    stdout, _ = shardsim(folder, "run", "small.yaml", "--force", "--json", "-q", *arguments)
    (run,) = json.loads(stdout)["runs"]
    return run["prefill_s"] + run["decode_s"], run


def test_calibrate_says_what_it_uses_and_a_run_uses_it(folder: Path) -> None:
    said, _ = shardsim(folder, "calibrate", "mine.csv", "--gpu", "H100", "--out", "mine.profile.json")
    assert "107 rows of mine.csv" in said
    assert "1 rows are faster than HBM or peak allow" in said
    assert "line 9: gemm" in said
    assert "gemm//bf16: 107 points" in said
    before, _ = duration_s(folder)
    after, run = duration_s(folder, "--measured", "mine.profile.json")
    assert after > 3.0 * before, "matrix multiplies are 40 times as slow"
    assert "mine.csv" in str(run["facts"])
    assert run["provenance"]["measured"] > 0.5
    assert duration_s(folder)[0] == before, "a run leaves nothing behind"


def test_the_scenario_may_name_the_profile_relative_to_itself(folder: Path) -> None:
    shardsim(folder, "calibrate", "mine.csv", "--gpu", "H100")
    by_option, _ = duration_s(folder, "--measured", "mine.profile.json")
    (folder / "small.yaml").write_text(SCENARIO + "kernels: {measured: mine.profile.json}\n")
    assert duration_s(folder)[0] == by_option


def test_nothing_is_written_over(folder: Path) -> None:
    (folder / "mine.profile.json").write_text("precious")
    _, error = shardsim(folder, "calibrate", "mine.csv", "--gpu", "H100", status=2)
    assert "exists" in error
    assert (folder / "mine.profile.json").read_text() == "precious"


def test_what_cannot_be_used_is_refused_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, error = shardsim(folder, "calibrate", "mine.csv", "--gpu", "H1000", status=2)
    assert "H1000" in error
    _, error = shardsim(folder, "run", "small.yaml", "--measured", "none.json", status=2)
    assert "kernels.measured" in error
    assert "shardsim calibrate" in error
    shardsim(folder, "calibrate", "mine.csv", "--gpu", "A100", "--out", "a.json")
    _, error = shardsim(folder, "run", "small.yaml", "--measured", "a.json", status=2)
    assert "is of A100-80GB-SXM: the cluster has H100-SXM" in error
    monkeypatch.setattr(index, "find_spec", lambda _: None)
    _, error = shardsim(folder, "run", "small.yaml", "--measured", "silicon", status=2)
    assert 'pip install "shardsim[silicon]"' in error
    assert not (folder / "reports").exists()


def test_tables_are_forgotten_when_a_run_fails() -> None:
    device = find_device("H100-SXM")
    fitted = kernel.gemm(device, 8, 512, 512, "bf16")
    with pytest.raises(ZeroDivisionError), using([Tables("H100-SXM", "test", {})]):
        raise ZeroDivisionError
    assert kernel.gemm(device, 8, 512, 512, "bf16") == fitted
