"""Predictions of serving_closed_loop.csv: each row's protocol replayed on its server.

C clients start at 0 and send 10 C prompts after their warm-ups, lengths drawn uniformly from [ratio x L, L]. Rows whose
protocol is not documented are replayed the same way with fixed lengths, and labelled so.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from simulator.cost.table import Setup
from simulator.engine.replica import Served, serve
from simulator.engine.server import Server, memory_for
from simulator.errors import ShardsimError
from simulator.metrics.serving import request_frame
from simulator.serving.batcher import Batcher
from simulator.validation.answer import empty_answer, refuse
from simulator.validation.baseline import floor_tpot_s, load_of
from simulator.validation.context import Context
from simulator.validation.launch_settings import DOCUMENTED as DOCUMENTED
from simulator.validation.launch_settings import before_floor, documented, lengths, speculates
from simulator.validation.links import text
from simulator.validation.report import FLOOR
from simulator.validation.serving_setup import front_of, policy_for, same_server, server, setup_of
from simulator.workload import closed_loop

SETUP = [
    "gpu", "gpus", "nodes", "framework", "framework_version", "model", "precision", "tp", "pp", "ep", "dp_attention",
]  # fmt: skip
LOAD = ["isl_nominal", "osl_nominal", "range_ratio", "concurrency", "num_prompts"]
OUTCOMES = (
    "mean_ttft_s", "median_ttft_s", "p90_ttft_s", "p99_ttft_s", "mean_tpot_s", "median_tpot_s", "p90_tpot_s",
    "p99_tpot_s", "mean_e2el_s", "output_tokens_per_s_per_gpu", "total_tokens_per_s_per_gpu",
)  # fmt: skip


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """All outcomes of each row from its setup, lengths and concurrency."""
    answer = empty_answer(frame, OUTCOMES, _labels(frame))
    answer["load"], answer[FLOOR] = "", np.nan
    inputs = frame[[*SETUP, *LOAD]]
    plain = inputs.astype(object).where(inputs.notna(), "")
    servers: dict[Hashable, tuple[Setup, list[int]]] = {}
    for _, rows in plain.groupby(SETUP, sort=False):
        try:
            row = frame.loc[rows.index[0]]
            setup = setup_of(row, context)
            servers.setdefault((same_server(setup), speculates(row)), (setup, []))[1].extend(rows.index)
        except ShardsimError as error:
            refuse(answer, rows.index, str(error))
    for setup, indices in servers.values():
        _fill(answer, setup, frame.loc[indices], plain.loc[indices])
    return answer


def _labels(frame: pd.DataFrame) -> "pd.Series[str]":
    documented = frame["protocol"].fillna("").str.startswith(DOCUMENTED)
    return frame["gpu"].astype(str) + documented.map({True: "", False: ", protocol assumed"})


def _fill(answer: pd.DataFrame, setup: Setup, rows: pd.DataFrame, plain: pd.DataFrame) -> None:
    """Predict the rows of one server, equal loads once."""
    try:
        found = server(setup, rows)
    except ShardsimError as error:
        refuse(answer, rows.index, str(error))
        return
    # What a launch depends on besides the server and its load.
    launches = [
        (text(row.framework), text(row.precision), documented(row), before_floor(row)) for row in rows.itertuples()
    ]
    loads = plain.assign(launch=[str(launch) for launch in launches])
    for _, same in loads.groupby([*LOAD, "launch"], sort=False):
        try:
            row = rows.loc[same.index[0]]
            served = run_of(found, row)
        except ShardsimError as error:
            refuse(answer, same.index, str(error))
            continue
        answer.loc[same.index, "load"] = load_of(served)
        answer.loc[same.index, FLOOR] = floor_tpot_s(found, row)
        for name, value in outcomes_of(served, int(row.gpus)).items():
            answer.loc[same.index, f"predicted_{name}"] = value
        answer.loc[same.index, "provenance"] = "replayed"


def replay(found: Server, row: Any) -> dict[str, float]:
    """One row's outcomes. Raises ShardsimError where its requests cannot be served."""
    return outcomes_of(run_of(found, row), int(row.gpus))


def run_of(found: Server, row: Any) -> Served:
    """One row's run. Raises ShardsimError where its requests cannot be served."""
    policy = policy_for(found.setup, row)
    longest = int(row.isl_nominal) + int(row.osl_nominal)
    ranks = [
        Batcher(policy, memory_for(found, policy, longest)) for _ in range(found.setup.layout.dp_attention)
    ]  # fmt: skip
    given, asked, ratio = lengths(row)
    loop = closed_loop(
        int(row.concurrency), input_tokens=given, output_tokens=asked, range_ratio=ratio,
        prompts=int(row.num_prompts) if pd.notna(row.num_prompts) else None,
    )  # fmt: skip
    return serve(loop, ranks, found.table, front=front_of(found.setup, row))


def outcomes_of(served: Served, gpus: int) -> dict[str, float]:
    """The table's outcome columns of one run."""
    frame = request_frame(served)
    ttft, tpot = frame.ttft_s, frame.tpot_s
    seconds = float(served.finish_s.max())
    output, total = int(served.output_tokens.sum()), int((served.output_tokens + served.input_tokens).sum())
    found: dict[str, Any] = {"mean_e2el_s": frame.e2el_s.mean()}
    for name, column in (("ttft", ttft), ("tpot", tpot)):
        found |= {f"mean_{name}_s": column.mean(), f"median_{name}_s": column.median()}
        found |= {f"p90_{name}_s": column.quantile(0.9), f"p99_{name}_s": column.quantile(0.99)}
    found["output_tokens_per_s_per_gpu"] = output / seconds / gpus
    found["total_tokens_per_s_per_gpu"] = total / seconds / gpus
    return {name: float(value) for name, value in found.items()}
