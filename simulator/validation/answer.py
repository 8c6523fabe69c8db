"""The frame that a predictor answers with."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def empty_answer(frame: pd.DataFrame, outcomes: Sequence[str], group: "pd.Series[str]") -> pd.DataFrame:
    """No row predicted yet: NaN outcomes, no reason given."""
    columns: dict[str, object] = {f"predicted_{outcome}": np.nan for outcome in outcomes}
    answer = pd.DataFrame(columns, index=frame.index)
    return answer.assign(provenance="", not_covered_because="", group=group)


def refuse(answer: pd.DataFrame, index: pd.Index, reason: str) -> None:
    """Say why these rows are not covered."""
    answer.loc[index, "not_covered_because"] = reason
