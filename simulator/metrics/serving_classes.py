"""What each class of the traffic felt."""

import numpy as np
import pandas as pd

from simulator.metrics.serving_case import ServingCase

CLASS_COLUMNS = (
    "class", "priority", "requests", "mean_ttft_s", "p95_ttft_s", "mean_tpot_s", "p95_tpot_s", "p95_e2el_s",
    "preempted", "good_share",
)  # fmt: skip
"""requests: answered ones; preempted: of these, at least once; good_share: that keep all limits, 1 without limits."""


def class_frame(case: ServingCase, requests: pd.DataFrame) -> pd.DataFrame:
    """One row a class, in the scenario's order; columns are CLASS_COLUMNS."""
    kind, priority = case.requests.kind, case.requests.priority
    rows: list[tuple[object, ...]] = []
    for place, name in enumerate(case.classes if kind is not None and priority is not None else ()):
        mine = requests[requests["class"] == name]
        members = np.flatnonzero(kind == place)
        rank = int(priority[members[0]]) if priority is not None and len(members) else 0
        rows.append(
            (name, rank, len(mine), mine["ttft_s"].mean(), mine["ttft_s"].quantile(0.95), mine["tpot_s"].mean(),
             mine["tpot_s"].quantile(0.95), mine["e2el_s"].quantile(0.95), int((mine["preemptions"] > 0).sum()),
             float(mine["good"].mean()) if len(mine) else float("nan"))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(CLASS_COLUMNS))
