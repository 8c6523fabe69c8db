"""Tables cut into parts: whoever answers them, the numbers are the same, and a bad row costs itself alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import DataError
from simulator.planning.execute import Processes
from simulator.validation import parts
from simulator.validation.answer import empty_answer
from simulator.validation.command import validate_command
from simulator.validation.context import Context
from simulator.validation.parts import DEFECT, Part, answered, joined, parts_of
from simulator.validation.run import run_tables

CLOSED = {
    "gpu": "H100-SXM", "gpus": 4, "nodes": 1, "framework": "vllm", "framework_version": "0.10.0",
    "model": "meta-llama/Llama-3.1-70B", "precision": "fp8", "tp": 4, "pp": 1, "ep": 1, "dp_attention": 1,
    "isl_nominal": 512, "osl_nominal": 16, "range_ratio": 1.0, "concurrency": 4, "num_prompts": 8, "protocol": "",
    "spec_decoding": "none", "date": "2025-09-01", "mean_ttft_s": 0.1, "mean_tpot_s": 0.02,
}  # fmt: skip


def closed_loop(folder: Path, *changes: dict[str, object]) -> Path:
    frame = pd.DataFrame([CLOSED | change for change in changes])
    frame.to_csv(folder / "serving_closed_loop.csv", index=False)
    return folder


def test_workers_do_not_change_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.validation.run.SMALL_S", 0.0)
    changes = ({}, {"gpu": "H200-SXM"}, {"concurrency": 8}, {"gpu": "H200-SXM", "concurrency": 2})
    data = closed_loop(tmp_path, *changes)
    here = run_tables(data).predictions["serving_closed_loop"]
    with Processes(2) as executor:
        there = run_tables(data, executor=executor).predictions["serving_closed_loop"]
    pd.testing.assert_frame_equal(here, there)
    assert here.predicted_mean_tpot_s.notna().all()
    assert here.predicted_mean_tpot_s.nunique() == len(changes)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from(["x", "y", None])), min_size=1))
def test_parts_hold_every_row_once_and_join_in_order(keys: list[tuple[str | None, str | None]]) -> None:
    rows = pd.DataFrame(keys, columns=["gpu", "model"]).assign(number=range(len(keys)))
    cut = parts_of("serving_closed_loop", rows, Path())
    assert joined([part.rows for part in cut[::-1]], rows.index).number.tolist() == list(range(len(keys)))
    assert len(cut) == len(set(keys))


@pytest.mark.parametrize("bad", [{0}, {3}, {6}, {1, 2, 5}, set(range(7)), set()])
def test_a_bad_row_costs_itself_alone(bad: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
        if frame.number.isin(bad).any():
            raise ZeroDivisionError("planted")
        return empty_answer(frame, ("time_s",), frame.gpu).assign(predicted_time_s=frame.number + 1.0)

    monkeypatch.setitem(parts.PREDICTORS, "kernels", predict)
    rows = pd.DataFrame({"gpu": "A100-SXM", "number": range(7)}, index=range(10, 17))
    answer = answered(Part("kernels", rows, Path()))
    assert answer.index.equals(rows.index)
    refused = answer.not_covered_because != ""
    assert set(rows.number[refused]) == bad
    assert answer.predicted_time_s.isna().equals(refused)
    assert all(why.startswith(f"{DEFECT}ZeroDivisionError: planted (") for why in answer.not_covered_because[refused])


def test_a_users_error_keeps_its_words_and_an_interrupt_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"gpu": ["A100-SXM"]})
    error: BaseException = DataError(where="here", given="x", rule="must be y")

    def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
        raise error

    monkeypatch.setitem(parts.PREDICTORS, "kernels", predict)
    assert answered(Part("kernels", rows, Path())).not_covered_because.tolist() == [str(error)]
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        answered(Part("kernels", rows, Path()))


def test_a_hole_in_the_data_and_a_defect_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = closed_loop(tmp_path, {}, {"tp": np.nan})
    assert validate_command(data, json_file=tmp_path / "out.json", predictions=tmp_path / "out", workers=1) == 0
    told = capsys.readouterr()
    assert "1 of 2 rows not covered: tp: must be stated" in told.out
    assert not told.err
    written = pd.read_csv(tmp_path / "out" / "serving_closed_loop.csv")
    assert written.predicted_mean_tpot_s.notna().tolist() == [True, False]

    def broken(row: object) -> None:
        raise AttributeError("planted")

    monkeypatch.setattr("simulator.validation.serving_setup.layout_of", broken)
    assert validate_command(data, workers=1) == 0
    told = capsys.readouterr()
    assert f"2 of 2 rows not covered: {DEFECT}AttributeError: planted (test_validation_parts.py:" in told.out
    assert told.err.startswith("2 rows were not predicted for a defect")
