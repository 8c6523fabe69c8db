"""Predictions of serving_requests_<gpu>_<model>.csv: one measured run each, replayed request by request.

The file's arrivals and lengths are sent to the described server; every row gets its own first token, time per output
token and latency. Nothing is fitted here.
"""

from typing import Any

import pandas as pd

from simulator.engine.replica import serve
from simulator.errors import ShardsimError
from simulator.metrics.serving import request_frame
from simulator.model.architecture import MixtureOfExperts
from simulator.parallel.layout import Layout
from simulator.validation.answer import empty_answer, refuse
from simulator.validation.context import Context
from simulator.validation.described import Described, engine_of, policy_from, ranks_of, server_from, setup_from
from simulator.validation.links import text
from simulator.workload.requests import requests

OUTCOMES = ("ttft_s", "tpot_s", "latency_s")
SETUP = ["gpu", "model", "tp", "dp", "ep_enabled", "dtype", "max_num_seqs", "max_num_batched_tokens", "framework"]
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "auto": ""}


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Times of each request, from all arrivals and lengths of its run."""
    answer = empty_answer(frame, OUTCOMES, _labels(frame))
    plain = frame[SETUP].astype(object).where(frame[SETUP].notna(), "")
    for _, same in plain.groupby(SETUP, sort=False):
        rows = frame.loc[same.index].sort_values("arrival_s", kind="stable")
        try:
            found = replay(rows, context)
        except ShardsimError as error:
            refuse(answer, same.index, str(error))
            continue
        for name in OUTCOMES:
            answer.loc[rows.index, f"predicted_{name}"] = found[name].to_numpy()
        answer.loc[rows.index, "provenance"] = "replayed"
    return answer


def _labels(frame: pd.DataFrame) -> "pd.Series[str]":
    return frame["gpu"].astype(str) + " " + frame["model"].astype(str).str.rsplit("/").str[-1]


def described(row: Any, mixture: bool) -> Described:
    """The server of a run. `dp` ranks of a mixture of experts share experts; those of a dense model are replicas."""
    tp, dp = int(row.tp), int(row.dp)
    stated = text(row.ep_enabled).lower() in ("true", "1", "1.0")
    wide = dp if mixture else 1
    layout = Layout(tp=tp, dp_attention=wide, ep=tp * wide if stated and mixture else 1)
    framework, version = engine_of(text(row.framework))
    dtype = text(row.dtype)
    return Described(
        text(row.gpu), framework, version, text(row.model), DTYPES.get(dtype, dtype), layout,
        max_sequences=int(row.max_num_seqs), max_batched_tokens=int(row.max_num_batched_tokens),
    )  # fmt: skip


def replay(rows: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Times of the requests of one run, in order of arrival. Raises ShardsimError where it cannot be served."""
    first: Any = next(rows.itertuples())
    model = context.model(text(first.model))
    mixture = any(isinstance(layer.feed_forward, MixtureOfExperts) for layer in model.distinct_layers)
    told = described(first, mixture)
    setup, policy = setup_from(told, context), policy_from(told)
    longest = int((rows.input_tokens + rows.output_tokens).max())
    found = server_from(setup, policy, clients=len(rows), longest=longest)
    replicas = 1 if mixture else int(first.dp)
    parts = []
    for replica in range(replicas):  # requests are dealt in turn
        mine = rows.iloc[replica::replicas]
        sent = requests(mine.arrival_s.to_numpy(float), mine.input_tokens.to_numpy(), mine.output_tokens.to_numpy())
        served = request_frame(serve(sent, ranks_of(found, policy, longest), found.table))
        parts.append(served.set_index(mine.index))
    return pd.concat(parts).loc[rows.index].rename(columns={"e2el_s": "latency_s"})
