"""The trivial baseline beside a score, and the label that says how loaded a run was."""

import numpy as np
import pandas as pd
import pytest

from simulator.engine.replica import serve
from simulator.serving import Batcher, KvBlocks, find_policy
from simulator.validation.baseline import load_of
from simulator.validation.report import FLOOR, table_report, trivial_error
from simulator.workload import closed_loop


class Fixed:
    def step_time_s(self, *_: float, **__: float) -> float:
        return 0.01


def label(pages: int, clients: int = 8) -> str:
    load = closed_loop(clients, input_tokens=100, output_tokens=200, range_ratio=0.5)
    return load_of(serve(load, [Batcher(find_policy("tensorrt-llm"), KvBlocks(pages, 32))], Fixed()))


def test_a_run_is_labelled_by_who_waits_for_room() -> None:
    # A request keeps 5 to 10 pages: eight need 80 at most, 60 on average.
    assert label(500) == "stable"
    assert label(62) == "backlogged"
    assert label(30) == "overloaded"


def test_the_trivial_baseline_is_one_constant_times_the_floor() -> None:
    floor = pd.Series([1.0, 2.0, 4.0, 5.0, np.nan])
    assert trivial_error(floor, pd.Series([3.0, 6.0, 12.0, 15.0, 7.0])) == pytest.approx(0.0)
    # Ratios 2, 3, 3, 6: their median 3 is off by a half, nothing, nothing, a half.
    assert trivial_error(floor, pd.Series([2.0, 6.0, 12.0, 30.0, 7.0])) == pytest.approx(0.25)
    assert np.isnan(trivial_error(floor, pd.Series([np.nan] * 5)))


def test_it_stands_beside_times_between_tokens_only() -> None:
    measured = pd.DataFrame({"mean_tpot_s": [2.0, 6.0, 12.0], "mean_ttft_s": [1.0, 2.0, 3.0]})
    answer = pd.DataFrame({"predicted_mean_tpot_s": [2.2, 6.0, 12.0], "predicted_mean_ttft_s": [1.0, 2.0, 3.0]})
    answer = answer.assign(group="g", not_covered_because="", **{FLOOR: [1.0, 2.0, 4.0]})
    report = table_report("t", measured, answer, ("mean_tpot_s", "mean_ttft_s"))
    by = {(line.group, line.outcome): line.baseline for line in report.groups}
    assert by["all", "mean_tpot_s"] == by["g", "mean_tpot_s"] == 0.0
    assert np.isnan(by["all", "mean_ttft_s"])
