"""Refit the shipped parameters: `python -m simulator.validation.fit collectives|kernels --data DIR [--out FILE]`.

Needs the extra `fit` (scipy).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from simulator.errors import ShardsimError
from simulator.validation import fit_collectives, fit_exchange, fit_kernels

PARAMETERS = Path(__file__).parents[1] / "cost" / "data"


def collectives(data: Path, out: Path, quick: bool) -> None:
    """Fit everything about collectives and write the data file, by rename at the end."""
    rows = fit_collectives.measured_rows(data)
    parameters, fitted = fit_collectives.fit_all(rows)
    unseen = {} if quick else fit_collectives.cross_check(rows)
    meta = {
        "source": "rows of collectives.csv, expert_all_to_all.csv and kv_transfer.csv, each with its own source",
        "date": datetime.now(UTC).date().isoformat(),
        "command": "python -m simulator.validation.fit collectives --data DIR",
    }
    body = fit_collectives.as_json(parameters, fitted, unseen, meta)
    body |= fit_collectives.rounded(fit_exchange.fit_all(data))
    part = out.with_suffix(out.suffix + ".part")
    part.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    part.replace(out)
    expert = {"by whole groups left out": body["unseen_expert"]}
    for what, errors in (("fitted", fitted), ("unseen", unseen), ("unseen expert exchange", expert)):
        print(f"{what}: median relative error")
        for name, block in errors.items():
            print(f"  {name}: " + ", ".join(f"{k} {v['error']:.1%} ({v['rows']})" for k, v in block.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m simulator.validation.fit", description=__doc__)
    parser.add_argument("what", choices=("collectives", "kernels"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the measured tables")
    parser.add_argument("--out", type=Path, help="data file to write; the shipped one if left out")
    parser.add_argument("--quick", action="store_true", help="collectives: skip the check on unseen groups")
    given = parser.parse_args(arguments)
    try:
        out = given.out or PARAMETERS / f"{given.what}.json"
        if given.what == "kernels":
            fit_kernels.write(given.data, datetime.now(UTC).date().isoformat(), out)
        else:
            collectives(given.data, out, given.quick)
    except ShardsimError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
