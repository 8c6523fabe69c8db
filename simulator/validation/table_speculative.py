"""Predictions of serving_speculative.csv: the closed loop's replay on servers that draft tokens.

Neither the number of drafted tokens nor their acceptance is in the table: `launch_settings` has what the launch scripts
set, and one acceptance for all.
"""

import pandas as pd

from simulator.validation import table_closed_loop
from simulator.validation.context import Context


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """All outcomes of each row, as `table_closed_loop.predict`; rows that draft and rows that do not apart."""
    drafts = frame["spec_decoding"].fillna("none")
    answers = [table_closed_loop.predict(rows, context) for _, rows in frame.groupby(drafts, sort=False)]
    return pd.concat(answers).loc[frame.index] if answers else table_closed_loop.predict(frame, context)
