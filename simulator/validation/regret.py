"""What it costs to choose a deployment by prediction: the chosen one, measured, beside the best that was measured.

    shardsim validate --data DIR --predictions PREDICTED
    python -m simulator.validation.regret PREDICTED

A question is a model, a kind of GPU and request lengths, with a limit on the time per token; its answers are the
measured configurations (engine, precision, layout, pools, clients). The planner would take the one with the highest
predicted throughput per GPU among those whose predicted time per token keeps the limit.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TABLES = ("serving_closed_loop", "serving_pd")
QUESTION = ["model", "gpu", "isl_nominal", "osl_nominal"]
RATE, TPOT = "total_tokens_per_s_per_gpu", "mean_tpot_s"
LIMITS_S = (0.015, 0.03, 0.06)
"""Time per token: 67, 33 and 17 tokens a second and user."""
SETUP = ["framework", "precision", "gpus", "tp", "pp", "ep", "dp_attention"]
POOLS = [f"{role}_{axis}" for role in ("prefill", "decode") for axis in ("workers", "tp", "pp", "ep", "dp_attention")]
FEWEST, PAIR = 4, 2
"""Configurations among which there is something to choose; at equal clients two are enough."""


def configurations(folder: Path) -> pd.DataFrame:
    """Rows of the tables' predictions that have both a measured and a predicted throughput and time per token."""
    frames = [
        pd.read_csv(folder / f"{table}.csv", low_memory=False).assign(table=table)
        for table in TABLES
        if (folder / f"{table}.csv").exists()
    ]
    frame = pd.concat(frames, ignore_index=True)
    plain = frame.get("spec_decoding", pd.Series("none", index=frame.index)).fillna("none") == "none"
    needed = [RATE, TPOT, f"predicted_{RATE}", f"predicted_{TPOT}"]
    return frame[plain & frame[needed].notna().all(axis=1)].reset_index(drop=True)


def regrets(frame: pd.DataFrame, limits_s: Sequence[float] = LIMITS_S, *, equal_clients: bool = False) -> pd.DataFrame:
    """A line for each question with something to choose; `equal_clients`: each number of clients is a question of its
    own, so that only engine, precision and layout are chosen.

    `regret`: share of the best measured throughput that the predicted choice gives away, 0 where it is the best; nan
    where it misses the limit by more than `TOLERANCE` when measured. `late`: its measured time per token over the
    limit. `blind`: the mean regret of choosing at random among what is measured to hold. `rank`: Spearman's
    correlation of predicted and measured throughput over all of the question's configurations.
    """
    found = []
    names = [*QUESTION, "concurrency"] if equal_clients else QUESTION
    for keys, rows in frame.groupby(names, sort=True, dropna=False):
        setups = rows.reindex(columns=["table", *SETUP, *POOLS]).drop_duplicates()
        fewest = PAIR if equal_clients else FEWEST
        if len(rows) < fewest or len(setups) < 2:
            continue
        rank = float(rows[RATE].rank().corr(rows[f"predicted_{RATE}"].rank()))
        for limit in limits_s:
            line = _question(rows, limit, fewest)
            if line is not None:
                found.append(dict(zip(names, keys, strict=True)) | {"limit_s": limit, "rank": rank} | line)
    return pd.DataFrame(found)


TOLERANCE = 0.1
"""A limit missed by less counts as kept: predictions of one time per token are not better than that."""


def _question(rows: pd.DataFrame, limit_s: float, fewest: int) -> dict[str, Any] | None:
    """One question; None where no configuration keeps the limit, or all that do are alike."""
    keeps = rows[rows[TPOT] <= limit_s]
    if len(keeps) < fewest or keeps[RATE].nunique() < 2:
        return None
    best = float(keeps[RATE].max())
    hoped = rows[rows[f"predicted_{TPOT}"] <= limit_s]
    blind = float((1.0 - keeps[RATE] / best).mean())
    if not len(hoped):
        return {"rows": len(rows), "chosen": False, "regret": np.nan, "late": np.nan, "blind": blind}
    chosen = hoped.iloc[int(hoped[f"predicted_{RATE}"].to_numpy().argmax())]
    late = float(chosen[TPOT] / limit_s)
    regret = np.nan if late > 1.0 + TOLERANCE else max(0.0, 1.0 - float(chosen[RATE]) / best)
    return {"rows": len(rows), "chosen": True, "regret": regret, "late": late, "blind": blind}


def summary(found: pd.DataFrame) -> dict[str, float]:
    """The whole in a few numbers."""
    kept = found["regret"].dropna()
    return {
        "questions": float(len(found)),
        "answered": float(found["chosen"].mean()),
        "keeps the limit": float(len(kept) / max(1, int(found["chosen"].sum()))),
        "best chosen": float((kept < 0.005).mean()),
        "median regret": float(kept.median()),
        "mean regret": float(kept.mean()),
        "90th percentile of regret": float(kept.quantile(0.9)),
        "mean regret of a blind choice": float(found["blind"].mean()),
        "median rank correlation": float(
            found.drop_duplicates([c for c in (*QUESTION, "concurrency") if c in found])["rank"].median()
        ),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the summary, and the questions with the largest regret."""
    parser = argparse.ArgumentParser(description="Regret of choosing deployments by prediction.")
    parser.add_argument("folder", type=Path, help="what `shardsim validate --predictions` wrote")
    parser.add_argument("--worst", type=int, default=8, help="questions to list")
    given = parser.parse_args(arguments)
    frame = configurations(given.folder)
    for title, equal, limits in (("clients chosen too", False, LIMITS_S), ("equal clients", True, (np.inf,))):
        found = regrets(frame, limits, equal_clients=equal)
        print(f"# {title}")
        for name, value in summary(found).items():
            print(f"{name}: {value:,.0f}" if name == "questions" else f"{name}: {value:.3g}")
        print(found.sort_values("regret", ascending=False).head(given.worst).to_string(index=False))


if __name__ == "__main__":
    main()
