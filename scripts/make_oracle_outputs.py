"""Compute what transformers says of the tiny checkpoints, and store it for `make test`.

Run with the extra `oracle` installed: python scripts/make_oracle_outputs.py
It writes tests/oracle_data/ (layouts.json: names and shapes of each checkpoint; outputs.npz: logits and greedy
tokens; versions.json) and prints the reference's error against each; tests/oracle_transformers.py says what
of transformers is widened to float64, and how.
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import oracle_transformers
import torch
import transformers
from oracle_cases import CONFIGS, FOLDER, SEED, TOLERANCE, Expected, largest_error, reference


def store(found: dict[str, Expected]) -> None:
    FOLDER.mkdir(exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    for family, expected in found.items():
        for i, (logits, tokens) in enumerate(zip(expected.logits, expected.tokens, strict=True)):
            arrays[f"{family}.logits.{i}"] = logits
            arrays[f"{family}.tokens.{i}"] = np.array(tokens)
    np.savez_compressed(FOLDER / "outputs.npz", **arrays)
    lines = (
        f"{json.dumps(family)}: {json.dumps({n: list(s) for n, s in e.shapes.items()}, separators=(',', ':'))}"
        for family, e in found.items()
    )
    (FOLDER / "layouts.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "seed": SEED}
    (FOLDER / "versions.json").write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    found = {}
    worst = 0.0
    for family in CONFIGS:
        expected = oracle_transformers.compute(family)
        error = largest_error(reference(family, expected), expected)
        print(f"{family:12} largest relative error {error:.1e}", flush=True)
        found[family], worst = expected, max(worst, error)
    store(found)
    print(f"stored in {FOLDER}; {'all' if worst < TOLERANCE else 'NOT all'} below {TOLERANCE}")
    return 0 if worst < TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
