"""Fit the kernel models on measured tables: `python -m simulator.validation.fit_kernels --data DIR --date DATE`.

A group of rows (an implementation, on a generation, in finer detail) is fitted by penalised least squares of
log(predicted / measured) under a soft-L1 loss; the penalty pulls its parameters towards those of the coarser group,
and the coarsest towards `kernel_priors`. How strongly is the one number tuned: shapes are split three ways by a hash
of `shape_key` (three parts fit and one tunes, by turns; one is unseen), the strength is the best on tune, and the
unseen error is reported once. Held-out errors in the file come from five folds over shapes; the shipped parameters
use all rows.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.cost.kernel.choose import Key
from simulator.cost.kernel.parameters import FORMAT
from simulator.cost.kernel.rows import FAMILIES, Case, Family
from simulator.cost.kernel.silicon import Parameters
from simulator.cost.kernel.sizes import Array
from simulator.errors import DataError
from simulator.validation.kernel_priors import PRIORS, UPPER

FOLDS = 5
STRENGTHS = (0.6, 1.3)
"""Spread of a finer group around its coarser one, as a multiple of the prior's spread."""
_NOISE = 0.04
"""Relative error at which the loss turns from squared to linear."""
Groups = dict[str, Parameters]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one op with their keys and fold (0 to FOLDS - 1, by shape)."""

    family: Family
    frame: pd.DataFrame
    keys: tuple[Key, ...]
    folds: Array

    def part(self, chosen: NDArray[np.bool_]) -> "Table":
        """The rows where `chosen` is true."""
        keys = tuple(key for key, keep in zip(self.keys, chosen, strict=True) if keep)
        return Table(self.family, self.frame[chosen], keys, self.folds[chosen])


def folds_of(shape_keys: Sequence[str]) -> Array:
    """Fold of each shape, dealt in the order of a hash: all GPUs and engines measured at a shape share its fold."""
    order = sorted(set(shape_keys), key=lambda key: hashlib.sha256(key.encode()).hexdigest())
    fold = {key: place % FOLDS for place, key in enumerate(order)}
    return np.array([float(fold[key]) for key in shape_keys])


def read_table(data: Path, op: str) -> Table:
    """Rows of `op`. Raises DataError where the file or a column is missing."""
    path = data / "kernels.csv"
    if not path.is_file():
        raise DataError(where=str(path), given="no such file", rule="--data is a folder that holds kernels.csv")
    frame = pd.read_csv(path, low_memory=False)
    missing = {"op", "shape_key", "time_s", "gpu", "backend", "kernel_source"} - set(frame.columns)
    if missing:
        raise DataError(
            where=str(path), given=f"no {', '.join(sorted(missing))}", rule="columns are those of its README"
        )
    frame = frame[(frame["op"] == op) & frame["time_s"].notna()].reset_index(drop=True)
    family = FAMILIES[op]
    keys = tuple(family.key(row) for row in frame.to_dict("records"))
    return Table(family, frame, keys, folds_of(list(frame["shape_key"])))


def prefixes(key: Key) -> list[str]:
    """Names of the groups a row belongs to, the coarsest first."""
    parts = (key.implementation, key.generation, *key.finer)
    return ["", *("/".join(parts[:depth]) for depth in range(1, len(parts) + 1)), f"*/{key.generation}"]


def _solve(case: Case, measured: Array, centre: Parameters, spread: Parameters) -> Parameters:
    names = list(spread)
    start = np.log([centre[name] for name in names])
    widths = np.array([spread[name] for name in names])
    limits = np.array([np.log(UPPER.get(name, np.inf)) for name in names])
    start = np.minimum(start, limits - 1e-6)

    def residuals(x: Array) -> Array:
        predicted = case.model(dict(zip(names, np.exp(x), strict=True)))
        error = np.log(predicted / measured) / _NOISE
        robust = np.sign(error) * np.sqrt(2.0 * (np.sqrt(1.0 + error**2) - 1.0))
        return np.concatenate([robust, (x - start) / widths])

    lower, upper = start - 6.0 * widths, np.minimum(start + 6.0 * widths, limits)
    found = least_squares(residuals, start, max_nfev=60, bounds=(lower, upper))
    return dict(zip(names, (float(v) for v in np.exp(found.x)), strict=True))


def fit(table: Table, strength: float) -> Groups:
    """Parameters of every group of `table`, coarse to fine."""
    priors = {name: prior.centre for name, prior in PRIORS[table.family.name].items()}
    members: dict[str, list[int]] = {}
    for place, key in enumerate(table.keys):
        for name in prefixes(key):
            members.setdefault(name, []).append(place)
    found: Groups = {}
    for name in sorted(members, key=lambda n: (n.count("/"), not n.startswith("*"), n)):
        above = _parent(name, table.family)
        parent = None if above is None else found.get(above)
        scale = 1.0 if parent is None else strength
        spread = {k: prior.spread * scale for k, prior in PRIORS[table.family.name].items()}
        rows = table.frame.iloc[members[name]]
        found[name] = _solve(table.family.case(rows), rows["time_s"].to_numpy(), parent or priors, spread)
    return found


def _parent(name: str, family: Family) -> str | None:
    """The group whose parameters `name` starts from; None: the priors."""
    above, _, last = name.rpartition("/")
    if name.count("/") == 1 and family.like_its_generation:
        return None if above == "*" else f"*/{last}"
    return above or None


def evaluate(table: Table, groups: Groups) -> Array:
    """Predicted seconds of every row by the most specific group there is, never below the roofline."""
    chosen = [next(name for name in key.candidates() if name in groups) for key in table.keys]
    predicted = np.full(len(table.frame), np.nan)
    for name in dict.fromkeys(chosen):
        rows = np.array([c == name for c in chosen])
        case = table.family.case(table.frame[rows])
        predicted[rows] = np.maximum(case.model(groups[name]), case.bound_s)
    return predicted


def errors(table: Table, predicted: Array) -> Array:
    """Absolute relative errors of the rows."""
    measured = table.frame["time_s"].to_numpy()
    relative: Array = np.abs(predicted / measured - 1.0)
    return relative


def held_out(table: Table, strength: float) -> Array:
    """Predictions of every row by a fit that saw none of its shape."""
    predicted = np.full(len(table.frame), np.nan)
    for fold in range(FOLDS):
        unseen = table.folds == fold
        if unseen.any():
            predicted[unseen] = evaluate(table.part(unseen), fit(table.part(~unseen), strength))
    return predicted


def tuned(table: Table) -> tuple[float, Array]:
    """(strength, errors on unseen shapes): the last fold is unseen, the others tune by turns, the rest is fitted."""
    seen, unseen = table.part(table.folds < FOLDS - 1), table.part(table.folds == FOLDS - 1)
    scores = {s: float(np.median(errors(seen, held_out(seen, s)))) for s in STRENGTHS}
    strength = min(scores, key=scores.__getitem__)
    return strength, errors(unseen, evaluate(unseen, fit(seen, strength)))


def leave_one_gpu_out(table: Table, strength: float) -> dict[str, float]:
    """Median error on each GPU by a fit that saw nothing of it."""
    found = {}
    for gpu in table.frame["gpu"].unique():
        left = (table.frame["gpu"] == gpu).to_numpy()
        found[str(gpu)] = float(
            np.median(errors(table.part(left), evaluate(table.part(left), fit(table.part(~left), strength))))
        )
    return found


def _significant(value: float) -> float:
    return float(f"{value:.4g}")


def _by_gpu(table: Table, relative: Array) -> dict[str, float]:
    medians = pd.Series(relative).groupby(table.frame["gpu"].to_numpy()).median()
    return {str(gpu): _significant(float(error)) for gpu, error in medians.items()}


def fitted_family(table: Table) -> dict[str, Any]:
    """One family's entry in the file: parameters and errors."""
    strength, unseen = tuned(table)
    blind = errors(table, held_out(table, strength))
    groups = fit(table, strength)
    seen = errors(table, evaluate(table, groups))
    names = [set(prefixes(key)) for key in table.keys]
    entries = {}
    for name, values in groups.items():
        rows = np.array([name in n for n in names])
        entries[name] = {
            "rows": int(rows.sum()),
            "fit_error": _significant(float(np.median(seen[rows]))),
            "held_out_error": _significant(float(np.median(blind[rows]))),
            "values": [_significant(values[p]) for p in table.family.parameters],
        }
    return {
        "parameters": list(table.family.parameters),
        "strength": strength,
        "rows": len(table.frame),
        "fit_error": _by_gpu(table, seen),
        "unseen_error": _significant(float(np.median(unseen))),
        "held_out_error": _by_gpu(table, blind),
        "gpu_left_out_error": {g: _significant(e) for g, e in leave_one_gpu_out(table, strength).items()},
        "groups": entries,
    }


def fit_all(data: Path, date: str) -> dict[str, Any]:
    """The whole file's content."""
    families = {}
    for op in FAMILIES:
        table = read_table(data, op)
        families[table.family.name] = entry = fitted_family(table)
        print(
            op, {k: entry[k] for k in ("strength", "unseen_error", "fit_error", "held_out_error", "gpu_left_out_error")}
        )
    content = (data / "kernels.csv").read_bytes()
    source = "ai-dynamo/aiconfigurator-core 0.12.0 operator tables (Apache-2.0), development half: kernels.csv"
    digest = hashlib.sha256(content).hexdigest()
    return {"format": FORMAT, "source": source, "sha256": digest, "date": date, "families": families}


def write(data: Path, date: str, out: Path) -> None:
    """Fit everything about kernels and write the data file, by rename at the end."""
    part = out.with_suffix(out.suffix + ".part")
    part.write_text(json.dumps(fit_all(data, date), indent=1) + "\n", encoding="utf-8")
    part.replace(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: fit, print errors, write the file."""
    default = Path(__file__).parents[1] / "cost" / "data" / "kernels.json"
    parser = argparse.ArgumentParser(description="Fit the kernel models on a folder of measured tables.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds kernels.csv")
    parser.add_argument("--out", type=Path, default=default, help=f"file to write (default {default})")
    parser.add_argument("--date", required=True, help="date of the fit, YYYY-MM-DD, written into the file")
    given = parser.parse_args(arguments)
    write(given.data, given.date, given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
