"""The fits: what is planted is found again, outliers or not, and the data file they write is read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulator.cost.collective.expert import seconds
from simulator.cost.collective.parameters import Parameters, parse, shipped
from simulator.validation import fit
from simulator.validation.fit_exchange import fit_phase, log_times, measured
from simulator.validation.fit_platforms import cells_of, fit_platform, predict, rows_with_links, with_platform
from simulator.validation.libraries import library_key, version_numbers
from simulator.validation.tables import read_table
from tests.test_validation import COLLECTIVE, write

OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
PLANTED = "ada.pcie"


def _rows(ranks: tuple[int, ...]) -> pd.DataFrame:
    sizes = np.exp2(np.arange(9, 30, 1.5))
    asked = [
        COLLECTIVE
        | {"gpu": "L40S", "intra_node": "PCIe", "total_gpus": n, "gpus_per_node": n, "op": op, "message_bytes": b}
        for n in ranks
        for op in OPS
        for b in sizes
    ]
    return rows_with_links(pd.DataFrame(asked))


def _with_planted_times(rows: pd.DataFrame, parameters: Parameters) -> pd.DataFrame:
    cells = cells_of(rows)
    logs = pd.concat([pd.Series(p, c.index) for c, p in zip(cells, predict(cells, parameters), strict=True)])
    return rows.assign(time_s=np.exp(logs))


def _misses(rows: pd.DataFrame, parameters: Parameters) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    cells = cells_of(rows)
    return np.abs(np.concatenate([p - c.log_time for c, p in zip(cells, predict(cells, parameters), strict=True)]))


def test_a_planted_platform_is_found_again_and_holds_for_an_unseen_group() -> None:
    slower = replace(
        shipped().platforms[PLANTED], contention=0.8, contention_far=0.8, launch_s=dict.fromkeys(OPS, 9e-6)
    )
    truth = Parameters({PLANTED: slower}, {}, {}, {})
    seen, unseen = (_with_planted_times(_rows(ranks), truth) for ranks in ((2, 8), (4,)))
    found = fit_platform(PLANTED, seen)
    assert found.error < 0.02
    assert float(np.median(_misses(unseen, with_platform(found)))) < 0.05
    assert found.contention == pytest.approx(0.8, abs=0.25)


def test_a_tenth_of_wild_rows_does_not_move_the_fit() -> None:
    truth = Parameters({PLANTED: shipped().platforms[PLANTED]}, {}, {}, {})
    clean = _with_planted_times(_rows((2, 8)), truth)
    wild = clean.copy()
    wild.loc[wild.index[::10], "time_s"] *= 6.0
    assert float(np.median(_misses(clean, with_platform(fit_platform(PLANTED, wild))))) < 0.03


def test_a_planted_exchange_is_found_again(tmp_path: Path) -> None:
    changes = [
        {"tokens_per_rank": t, "ep": 8 * n, "nodes": n, "gpu": gpu}
        for t in (1, 16, 128, 500, 2000)
        for n in (1, 2, 8)
        for gpu in ("H100-SXM", "H800")
    ]
    known = measured(read_table(write(tmp_path, "expert_all_to_all", *changes), "expert_all_to_all"))
    truth = {
        "base_s": 2.1e-5, "level_s": 6e-6, "token_s": 2e-9, "scale_up_share": 0.45, "network_share": 0.8,
        "congestion": 0.06, "sm_bytes_per_s": 0.0, "sender_token_s": 2e-6, "relay": 2.0, "hidden_s": 1e-10,
        "rank_level_s": 1e-6, "queue_bytes": 5e7,
    }  # fmt: skip
    asks = list(known["ask"])
    sent = [ask.traffic() for ask in asks]
    times = np.array([seconds(a.links, truth, s, a.tokens, a.sms, a.hidden) for a, s in zip(asks, sent, strict=True)])
    found = fit_phase("deepep_low_latency", asks, times)
    assert found["error"] < 0.01
    assert np.exp(log_times(asks, sent, found)) == pytest.approx(times, rel=0.05)
    assert found["network_share"] == pytest.approx(0.8, rel=0.1)


def test_the_command_writes_a_file_that_reads_back(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "parameters.json"
    data.mkdir()
    sizes = 2.0 ** np.arange(10, 30, 2)
    two = [
        {"total_gpus": n, "gpus_per_node": n, "message_bytes": b, "group_id": f"x{n}"} for n in (2, 4, 8) for b in sizes
    ]
    write(data, "collectives", *[c | {"time_s": 1e-5 + c["message_bytes"] / 2e11} for c in two])
    write(data, "expert_all_to_all", {}, {"tokens_per_rank": 512, "time_s": 1.2e-4})
    assert fit.main(["collectives", "--data", str(data), "--out", str(out)]) == 0
    read = parse(out.read_text(), str(out))
    assert set(read.platforms) == {"hopper.nvlink", "cdna3.xgmi"}
    assert set(read.networks) == {"infiniband", "roce", "efa", "slingshot", "slingshot crossed"}
    assert set(read.expert) == {"deepep_low_latency dispatch hopper"}
    assert "unseen" in out.read_text()


def test_a_missing_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit.main(["collectives", "--data", str(tmp_path / "nowhere")]) == 2
    assert "no such table" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("library", "version", "key"),
    [
        ("NCCL", "nccl 2.27.3", "nccl"),
        ("RCCL", "", "rccl"),
        ("oneCCL", "oneccl 2021.17.2", "oneccl"),
        ("vLLM custom all-reduce", "0.14.0", "vllm<0.18"),
        ("vLLM custom all-reduce", "0.24.0", "vllm"),
        ("SGLang custom all-reduce", "0.5.9", "sglang<0.5.14"),
        ("SGLang custom all-reduce", "0.5.14", "sglang"),
        ("TensorRT-LLM custom all-reduce", "1.2.0rc5", "tensorrt-llm<1.3"),
        ("TensorRT-LLM custom all-reduce", "1.3.0rc20", "tensorrt-llm"),
        ("Gloo", "1", None),
    ],
)
def test_libraries_by_name_and_version(library: str, version: str, key: str | None) -> None:
    assert library_key(library, version) == key


def test_numbers_of_a_version() -> None:
    assert version_numbers("1.3.0rc10") == (1, 3, 0)
    assert version_numbers("0.5.6.post2") == (0, 5, 6)
