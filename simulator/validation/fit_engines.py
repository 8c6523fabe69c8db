"""Fit the few numbers of each engine's profile: `python -m simulator.validation.fit_engines --data DIR [--out FILE]`.

Four numbers an engine and version range, never per model, GPU or row: the speed of its kernels and of its collectives
over the fitted tables' (whose kernels are of 2025 and 2026), and the host's time per step and per sequence. The steps
of an offline run do not depend on how long they take, so each row's steps are priced once and only joined anew. Groups
(model x GPU) are split in half; what is written was fitted on one half, and its error is that of the other.
Needs the extra `fit` (scipy).
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.cost.engine_profile import EngineProfile, engines
from simulator.errors import ShardsimError
from simulator.validation.context import Context
from simulator.validation.links import text
from simulator.validation.offline_replay import Steps
from simulator.validation.table_offline import case_of, output_tokens, per_gpu, step_parts, steps_of, table_of
from simulator.validation.tables import read_table

Array = NDArray[np.float64]
PROFILES = Path(__file__).parents[1] / "cost" / "data" / "engines.toml"
FITTED = ("kernel_share", "all_reduce_share", "host_step_us", "host_sequence_us")
BOUNDS = ((0.5, 0.5, 0.0, 0.0), (1.5, 1.5, 10_000.0, 50.0))
# Pulls towards what is expected where rows say nothing (no tensor parallelism, no small batches): as one row each
# that is off by a quarter.
PRIOR = (1.0, 1.0, 300.0, 1.0)
PRIOR_SPREAD = (0.25, 0.25, 1000.0, 10.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: its steps' parts, and the seconds that were measured."""

    group: str
    metric: str
    times: Array
    compute_s: Array
    comm_s: Array
    sequences: Array
    measured_s: float


def rows_of(data: Path) -> dict[str, list[Measured]]:
    """Measured rows by the label of the profile that describes them; those that cannot be replayed are left out."""
    frame, context = read_table(data, "serving_offline"), Context(data)
    found: dict[str, list[Measured]] = {}
    for row in frame.itertuples():
        case = case_of(row, context)
        if isinstance(case, str) or case.layout.pp > 1:
            continue
        steps = steps_of(row, case)
        if isinstance(steps, str):
            continue
        neutral = replace(
            case.engine, kernel_share=1.0, all_reduce_share=1.0, host_step_s=0.0, host_sequence_s=0.0, launch_s=0.0
        )
        compute_s, comm_s = step_parts(table_of(replace(case, engine=neutral)), steps)
        seconds = measured_s(row, steps)
        found.setdefault(case.engine.label, []).append(
            Measured(
                f"{row.model}/{row.gpu}", text(row.metric), steps.times, compute_s, comm_s, steps.sequences, seconds
            )
        )
    return found


def measured_s(row: Any, steps: Steps) -> float:
    """Seconds of the whole run, from whichever outcome the row states."""
    if text(row.metric) == "first_token_latency":
        return float(row.first_token_s)
    system, each, gpus = row.output_tokens_per_s, row.output_tokens_per_s_per_gpu, float(row.tp) * float(row.pp)
    rate = float(each) * gpus if pd.isna(system) else float(system) * (gpus if per_gpu(row) else 1.0)
    return output_tokens(row, steps) / rate


def predicted_s(row: Measured, values: Array, *, overlaps: bool) -> float:
    """Seconds of a row's run with the four numbers of FITTED."""
    kernel, collective, step_us, sequence_us = values
    busy = row.compute_s / kernel + row.comm_s / collective
    host = step_us * 1e-6 + sequence_us * 1e-6 * row.sequences
    return float((row.times * (np.maximum(busy, host) if overlaps else busy + host)).sum())


def fit(rows: Sequence[Measured], *, overlaps: bool) -> Array:
    """The four numbers that bring the logarithms of predicted and measured times nearest, outliers damped."""
    spread = np.array(PRIOR_SPREAD)

    def residuals(scaled: Array) -> Array:
        values = scaled * spread
        found = [np.log(predicted_s(row, values, overlaps=overlaps) / row.measured_s) for row in rows]
        return np.array([*found, *(0.25 * (values - PRIOR) / spread)])

    start = np.array(PRIOR) / spread
    bounds = (np.array(BOUNDS[0]) / spread - 1e-9, np.array(BOUNDS[1]) / spread)
    result = least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.05)
    return np.asarray(result.x * spread)


def halves_of(groups: Sequence[str]) -> dict[str, int]:
    """Which half each model x GPU belongs to: every other one, in the order of a checksum of its name."""
    ordered = sorted(set(groups), key=lambda group: crc32(group.encode()))
    return {group: k % 2 for k, group in enumerate(ordered)}


def errors(rows: Sequence[Measured], values: Array, *, overlaps: bool) -> Array:
    """Relative errors of times."""
    return np.array([abs(predicted_s(row, values, overlaps=overlaps) / row.measured_s - 1.0) for row in rows])


@dataclass(frozen=True, slots=True)
class Fitted:
    """Numbers of one profile, with the median errors of the rows they were and were not fitted on."""

    profile: EngineProfile
    values: Array
    rows: int
    fit_error: float
    held_out_error: float
    by_metric: dict[str, tuple[int, float]]


def fit_profile(profile: EngineProfile, rows: Sequence[Measured]) -> Fitted:
    """Fit on one half of the groups, judge by the other; where only one half has rows, by that."""
    overlaps = profile.overlaps_host
    half = halves_of([row.group for row in rows])
    halves = [[row for row in rows if half[row.group] == k] for k in (0, 1)]
    mine, other = halves if halves[0] and halves[1] else (list(rows), list(rows))
    values = fit(mine, overlaps=overlaps)
    held = errors(other, values, overlaps=overlaps)
    names = np.array([row.metric for row in other])
    metrics = {str(name): (int((names == name).sum()), float(np.median(held[names == name]))) for name in set(names)}
    inside = float(np.median(errors(mine, values, overlaps=overlaps)))
    return Fitted(profile, values, len(rows), inside, float(np.median(held)), metrics)


def written(toml: str, fits: Sequence[Fitted]) -> str:
    """The data file with the fitted numbers replaced, everything else and the comments as they were."""
    today = datetime.now(UTC).date().isoformat()
    blocks = toml.split("[[engine]]\n")
    for found in fits:
        for k, block in enumerate(blocks):
            since = ".".join(map(str, found.profile.since))
            if f'name = "{found.profile.name}"' in block and f'since = "{since}"' in block:
                for name, value in zip(FITTED, found.values, strict=True):
                    block = re.sub(rf"(?m)^{name} = .*$", f"{name} = {max(0.0, round(float(value), 3))}", block)
                block = re.sub(r"(?m)^error = .*$", f"error = {found.held_out_error:.3f}", block)
                note = f"# fitted {today} on half the groups of {found.rows} rows of serving_offline.csv"
                blocks[k] = re.sub(r"(?m)^# fitted.*$", note, block)
    return "[[engine]]\n".join(blocks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m simulator.validation.fit_engines", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the measured tables")
    parser.add_argument("--out", type=Path, default=PROFILES, help="data file to rewrite")
    given = parser.parse_args(arguments)
    try:
        rows = rows_of(given.data)
    except ShardsimError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    fits = [fit_profile(profile, rows[profile.label]) for profile in engines() if profile.label in rows]
    for found in fits:
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in zip(FITTED, found.values, strict=True))
        print(
            f"{found.profile.label}: {numbers}; {found.rows} rows, median error fitted {found.fit_error:.1%}, ", end=""
        )
        print(f"held out {found.held_out_error:.1%} ", end="")
        print(", ".join(f"{name} {error:.1%} ({n})" for name, (n, error) in sorted(found.by_metric.items())))
    part = given.out.with_suffix(given.out.suffix + ".part")
    part.write_text(written(given.out.read_text(encoding="utf-8"), fits), encoding="utf-8")
    part.replace(given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
