"""The regret of choosing by prediction: hand-made tables whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from simulator.validation.regret import RATE, TPOT, configurations, regrets, summary


def table(seed: int = 3, error: float = 0.0) -> pd.DataFrame:
    """Two questions of 12 configurations; predictions off by a lognormal `error`."""
    random = np.random.default_rng(seed)
    rows = []
    for model, scale in (("a", 1.0), ("b", 2.7)):
        for tp in (1, 2, 4):
            for clients in (4, 16, 64, 256):
                tpot = scale * (0.004 + 0.00009 * clients) / tp**0.7
                rate = clients / tpot / tp * (1.0 - 0.05 * tp)
                rows.append((model, "H100", 1024, 1024, "vLLM", "fp8", tp, tp, clients, tpot, rate))
    names = ["model", "gpu", "isl_nominal", "osl_nominal", "framework", "precision", "gpus", "tp", "concurrency"]
    frame = pd.DataFrame(rows, columns=[*names, TPOT, RATE]).assign(table="serving_closed_loop", spec_decoding="none")
    for column in (TPOT, RATE):
        frame[f"predicted_{column}"] = frame[column] * np.exp(error * random.standard_normal(len(frame)))
    return frame


def test_right_predictions_have_no_regret() -> None:
    found = regrets(table())
    assert len(found) >= 4
    assert (found["regret"] == 0.0).all()
    assert (found["late"] <= 1.0).all()
    assert found["rank"].to_numpy() == pytest.approx(1.0)
    assert (found["blind"] > 0.2).all()


def test_a_factor_common_to_all_costs_nothing_where_no_limit_is_near() -> None:
    frame = table()
    frame[f"predicted_{RATE}"] *= 1.7
    assert (regrets(frame, (10.0,))["regret"] == 0.0).all()


def test_predictions_upside_down_are_told() -> None:
    """Planted: who is slow is promised to be fast."""
    frame = table()
    frame[f"predicted_{RATE}"] = 1.0 / frame[RATE]
    wrong = summary(regrets(frame, (10.0,)))
    assert wrong["mean regret"] > wrong["mean regret of a blind choice"] > 0.2
    assert wrong["median rank correlation"] == pytest.approx(-1.0)
    late = table()
    late[f"predicted_{TPOT}"] /= 4.0
    assert summary(regrets(late))["keeps the limit"] < 0.6


def test_at_equal_clients_only_the_layout_is_chosen() -> None:
    slow = table().assign(precision="bf16")
    slow[RATE] /= 3.0
    found = regrets(pd.concat([table(), slow], ignore_index=True), (np.inf,), equal_clients=True)
    assert len(found) == 8
    assert (found["rows"] == 6).all()
    assert (found["regret"] == 0.0).sum() == 8, "of equal promises the first is taken, which is the better one here"
    slow[f"predicted_{RATE}"] *= 1.1
    turned = regrets(pd.concat([table(), slow], ignore_index=True), (np.inf,), equal_clients=True)
    assert turned["regret"].to_numpy() == pytest.approx(2 / 3)


def test_more_error_costs_more() -> None:
    means = [
        np.mean([summary(regrets(table(seed, error), (10.0,)))["mean regret"] for seed in range(12)])
        for error in (0.05, 0.3, 1.0)
    ]
    assert means == sorted(means)


def test_rows_without_both_sides_and_drafted_ones_are_left_out(tmp_path: object) -> None:
    frame = table()
    frame.loc[0, RATE] = np.nan
    frame.loc[1, f"predicted_{TPOT}"] = np.nan
    frame.loc[2, "spec_decoding"] = "mtp"
    frame.drop(columns="table").to_csv(f"{tmp_path}/serving_closed_loop.csv", index=False)
    assert len(configurations(type(tmp_path)(str(tmp_path)))) == len(frame) - 3  # type: ignore[call-arg]
