"""Predictions of serving_open_loop.csv: each row's arrivals replayed on its replicas.

Rows that state lengths, layout and the number of requests are replayed as they are. MLPerf's rows state a system, a
rate and the limits that a valid run keeps: layout and precision are then chosen as a planner would choose them.
"""

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pandas as pd

from simulator.engine.server import Server
from simulator.errors import DataError, ShardsimError
from simulator.validation.answer import empty_answer, refuse
from simulator.validation.context import Context
from simulator.validation.described import Described, policy_from, prefix_tokens, server_from, setup_from
from simulator.validation.links import text
from simulator.validation.mlperf_load import Peak, mlperf_outcomes
from simulator.validation.open_load import stated_load
from simulator.validation.open_pools import pools_outcomes
from simulator.validation.open_replay import OUTCOMES, Fleet, whole_run
from simulator.validation.open_servers import events_of, front_of, gpus_of, in_flight_of, number, stated_server

MLPERF = "mlperf"


class Servers:
    """Servers by what describes them, each built once."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._known: dict[Hashable, Server] = {}
        self.peaks: dict[Hashable, Peak] = {}

    def get(self, told: Described, clients: int, longest: int) -> Server:
        """The described server; its table reaches powers of two of clients and tokens, so that few tables serve all."""
        clients, longest = 1 << max(5, (clients - 1).bit_length()), 1 << max(8, (longest - 1).bit_length())
        key = (replace(told, max_sequences=0), clients, longest)
        found = self._known.get(key)
        if found is None:
            # Not the first row's own limit: rows that differ in it alone share the table.
            setup, policy = setup_from(told, self.context), replace(policy_from(told), max_sequences=clients)
            found = self._known[key] = server_from(setup, policy, clients=clients, longest=longest)
        return found


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """All outcomes of each row from its system, load and lengths."""
    answer = empty_answer(frame, OUTCOMES, _labels(frame))
    servers, known = Servers(context), {}
    inputs = [c for c in frame.columns if c not in ("source", "group_id", "submitter", "system")]
    for index, row in zip(frame.index, frame.itertuples(), strict=True):
        key = tuple(str(getattr(row, name)) for name in inputs)
        if key not in known:
            known[key] = _answered(row, servers)
        found = known[key]
        if isinstance(found, str):
            refuse(answer, pd.Index([index]), found)
            continue
        for name, value in found.items():
            answer.loc[index, f"predicted_{name}"] = value
        answer.loc[index, "provenance"] = "replayed"
    return answer


def _labels(frame: pd.DataFrame) -> "pd.Series[str]":
    return frame["suite"].fillna("?") + " / " + frame["model"].fillna("?").str.rsplit("/").str[-1]


def _answered(row: Any, servers: Servers) -> dict[str, float] | str:
    try:
        if not text(row.gpu):
            return "no GPU is named: a CPU system"
        if text(row.suite).startswith(MLPERF):
            return mlperf_outcomes(row, servers)
        return stated_outcomes(row, servers)
    except ShardsimError as error:
        return str(error)


def stated_outcomes(row: Any, servers: Servers) -> dict[str, float]:
    """Outcomes of a row that states what it sent."""
    if pd.isna(row.mean_input_tokens) or pd.isna(row.mean_output_tokens):
        raise DataError(where="lengths", given="", rule="mean lengths are not stated")
    told = stated_server(row)
    policy = policy_from(told)
    load = stated_load(row, prefix_tokens(policy))
    replicas = number(row.replicas, max(1, gpus_of(row) // told.layout.ranks))
    longest = int((load.input_tokens + load.output_tokens).max())
    server = servers.get(told, min(len(load), policy.max_sequences, 1024), longest)
    if number(row.prefill_workers, 0):
        workers = number(row.prefill_workers, 1), number(row.decode_workers, 1)
        return pools_outcomes(server, policy, workers, load, front_of(row), gpus_of(row))
    routed = "llm-d" in text(row.framework).lower()
    fleet = Fleet(server, policy, replicas, gpus_of(row), not routed, front_of(row), in_flight_of(row))
    return whole_run(fleet, load, events_per_token=events_of(row))
