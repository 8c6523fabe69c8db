"""`python -m simulator.validation.fit_serving --data DIR`: the host's time per op of an eager prompt step, by engine.

One number an engine. Rows of few clients, where a prompt hardly queues: half of the groups (by a checksum of their id)
choose the number, the other half says how good it is; model families weigh alike, however many rows they have.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd

from simulator.cost.table import DirectPricer, StepTable
from simulator.engine.server import Server
from simulator.errors import ShardsimError
from simulator.validation.context import Context
from simulator.validation.serving_setup import policy_name, server, setup_of
from simulator.validation.table_closed_loop import DOCUMENTED, SETUP, replay
from simulator.validation.tables import read_table

LAUNCHES_US = (6.0, 20.0, 35.0, 50.0, 65.0, 80.0, 100.0, 125.0, 150.0, 180.0, 215.0, 250.0)
FEW_CLIENTS = 16


def with_launch(found: Server, launch_s: float) -> Server:
    """The same server, whose host needs `launch_s` for each eager op; nothing else of the table depends on it."""
    setup = replace(found.setup, engine=replace(found.setup.engine, launch_s=launch_s))
    table = found.table
    return Server(
        setup, StepTable(DirectPricer(setup), table.options, table.reach, table.stages), found.kv_bytes_per_rank
    )


def errors(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """log(predicted / measured) of the first token's time: a column a launch time, with engine, half and family."""
    kept = []
    for _, rows in frame.groupby(SETUP, dropna=False, sort=False):
        try:
            found = server(setup_of(rows.iloc[0], context), rows)
        except ShardsimError:
            continue
        for launch_us in LAUNCHES_US:
            tried = with_launch(found, launch_us * 1e-6)
            for _, row in rows.iterrows():
                median = pd.notna(row.median_ttft_s)
                name = "median_ttft_s" if median else "mean_ttft_s"
                ratio = replay(tried, row)[name] / row[name]
                kept.append((policy_name(row.framework), row.half, row.model_family, launch_us, float(np.log(ratio))))
    return pd.DataFrame(kept, columns=["engine", "half", "family", "launch_us", "error"])


def fit(data: Path) -> pd.DataFrame:
    """Per engine: the number chosen on one half, and the median error on either half."""
    frame = read_table(data, "serving_closed_loop")
    frame = frame[frame.protocol.str.startswith(DOCUMENTED) & (frame.concurrency <= FEW_CLIENTS)]
    frame = frame[frame.median_ttft_s.notna() | frame.mean_ttft_s.notna()]
    frame = frame.assign(half=[crc32(group.encode()) % 2 for group in frame.group_id])
    found = errors(frame.drop_duplicates([*SETUP, "isl_nominal", "osl_nominal", "concurrency"]), Context(data))
    found["error"] = found.error.abs()
    families = found.groupby(["engine", "half", "launch_us", "family"]).error.median()
    medians = families.groupby(["engine", "half", "launch_us"]).mean().unstack("half")
    chosen = medians[0].groupby("engine").idxmin()
    return (
        medians.loc[[*chosen, *((engine, LAUNCHES_US[0]) for engine in chosen.index)]]
        .sort_index()
        .rename(columns={0: "fitted half", 1: "unseen half"})
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m simulator.validation.fit_serving", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the measured tables")
    print(fit(parser.parse_args(arguments).data).round(3).to_string())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
