"""Measured tables as their README documents them: read, checked, and split into inputs and outcomes."""

from pathlib import Path

import pandas as pd

from simulator.errors import DataError

# Outcome columns: what a prediction is for. Everything else is input.
OUTCOMES: dict[str, tuple[str, ...]] = {
    "collectives": ("time_s", "bus_bytes_per_s"),
    "expert_all_to_all": ("time_s", "notify_time_s", "bandwidth_bytes_per_s"),
    "kv_transfer": ("time_s", "bandwidth_bytes_per_s", "mean_ttft_s"),
    "kernels": ("time_s",),
    "serving_offline": ("output_tokens_per_s", "output_tokens_per_s_per_gpu", "first_token_s", "samples_per_s"),
    "serving_closed_loop": (
        *("mean_ttft_s", "median_ttft_s", "p90_ttft_s", "p99_ttft_s"),
        *("mean_tpot_s", "median_tpot_s", "p90_tpot_s", "p99_tpot_s", "mean_e2el_s"),
        *("output_tokens_per_s_per_gpu", "total_tokens_per_s_per_gpu"),
        *("mean_power_w_per_gpu", "joules_per_output_token"),
    ),
    "serving_speculative": (
        *("mean_ttft_s", "median_ttft_s", "p90_ttft_s", "p99_ttft_s"),
        *("mean_tpot_s", "median_tpot_s", "p90_tpot_s", "p99_tpot_s", "mean_e2el_s"),
        *("output_tokens_per_s_per_gpu", "total_tokens_per_s_per_gpu"),
        *("mean_power_w_per_gpu", "joules_per_output_token"),
    ),
    "serving_open_loop": (
        *("achieved_requests_per_s", "mean_ttft_s", "median_ttft_s", "p90_ttft_s", "p99_ttft_s"),
        *("mean_tpot_s", "median_tpot_s", "p90_tpot_s", "p99_tpot_s", "mean_e2el_s"),
        *("output_tokens_per_s", "output_tokens_per_s_per_gpu"),
    ),
    "wide_ep_production": ("value", "tokens_per_s_per_gpu"),
    "serving_requests": ("ttft_s", "tpot_s", "latency_s"),
    "serving_pd": (
        *("mean_ttft_s", "median_ttft_s", "p90_ttft_s", "p99_ttft_s"),
        *("mean_tpot_s", "median_tpot_s", "p90_tpot_s", "p99_tpot_s", "mean_e2el_s"),
        *("output_tokens_per_s_per_decode_gpu", "input_tokens_per_s_per_prefill_gpu", "total_tokens_per_s_per_gpu"),
        *("prefill_mean_power_w_per_gpu", "decode_mean_power_w_per_gpu", "joules_per_output_token"),
    ),
}
# Input columns that a table must have; numbers where marked.
NUMBERS: dict[str, tuple[str, ...]] = {
    "collectives": ("nodes", "gpus_per_node", "total_gpus", "nic_gbit_per_s_per_gpu", "message_bytes"),
    "expert_all_to_all": ("nodes", "gpus_per_node", "ep", "hidden", "topk", "experts", "tokens_per_rank", "sms"),
    "kv_transfer": ("src_gpus", "dst_gpus", "nodes", "bytes", "block_bytes", "batch", "threads"),
    "kernels": (),
    "serving_offline": ("tp", "pp", "batch_size", "isl", "osl"),
    "serving_closed_loop": (
        *("nodes", "gpus", "tp", "pp", "ep", "dp_attention"),
        *("isl_nominal", "osl_nominal", "range_ratio", "concurrency", "num_prompts"),
    ),
    "serving_speculative": (
        *("nodes", "gpus", "tp", "pp", "ep", "dp_attention"),
        *("isl_nominal", "osl_nominal", "range_ratio", "concurrency", "num_prompts"),
    ),
    "serving_open_loop": (
        *("gpus", "nodes", "replicas", "prefill_workers", "decode_workers", "tp", "pp", "ep", "batch_size"),
        *("arrival_cv", "concurrency", "offered_requests_per_s", "num_requests", "mean_input_tokens"),
        *("mean_output_tokens", "mean_output_tokens_derived", "ttft_limit_s", "tpot_limit_s"),
    ),
    "wide_ep_production": ("gpus", "nodes", "batch_per_gpu", "concurrency"),
    "serving_requests": (
        *("arrival_s", "input_tokens", "output_tokens", "tp", "dp", "max_num_seqs", "max_num_batched_tokens"),
    ),
    "serving_pd": (
        *("gpus", "prefill_gpus", "decode_gpus", "prefill_workers", "prefill_tp", "prefill_pp", "prefill_ep"),
        *("prefill_dp_attention", "decode_workers", "decode_tp", "decode_pp", "decode_ep", "decode_dp_attention"),
        *("isl_nominal", "osl_nominal", "range_ratio", "concurrency", "num_prompts"),
    ),
}
TEXTS: dict[str, tuple[str, ...]] = {
    "collectives": (
        *("setup_id", "gpu", "intra_node", "inter_node", "library", "library_version", "mode", "op", "dtype", "notes"),
    ),
    "expert_all_to_all": ("gpu", "backend", "version", "kernel", "phase", "dispatch_dtype", "notes", "group_id"),
    "kv_transfer": ("setup_id", "gpu", "fabric", "engine", "op", "memory", "notes"),
    "kernels": ("gpu", "op"),
    "serving_offline": ("release", "gpu", "framework", "model", "precision", "metric"),
    "serving_closed_loop": ("gpu", "framework", "framework_version", "model", "precision", "protocol"),
    "serving_speculative": ("gpu", "framework", "framework_version", "model", "precision", "protocol", "spec_decoding"),
    "serving_open_loop": (
        *("suite", "release", "system", "gpu", "framework", "model", "precision", "kv_dtype", "attention_dp"),
        *("max_num_tokens", "scenario", "workload", "load_kind", "spec_decoding"),
    ),
    "wide_ep_production": (
        *("model", "gpu", "framework", "precision", "topology", "phase", "isl", "metric", "unit", "qualifier"),
    ),
    "serving_requests": ("gpu", "model", "dtype", "framework", "ep_enabled"),
    "serving_pd": ("gpu", "framework", "framework_version", "model", "precision", "spec_decoding"),
}
SIGNED = ("value",)
"""Columns that may be negative: changes in per cent stand among them."""
PER_REQUEST = "serving_requests"
"""Tables serving_requests_<gpu>_<model>.csv hold one run each, a row a request, and share their columns."""


def kind_of(table: str) -> str:
    """Under which name the columns of a table stand here.

    >>> kind_of("serving_requests_l4_gemma"), kind_of("kernels")
    ('serving_requests', 'kernels')
    """
    return PER_REQUEST if table.startswith(f"{PER_REQUEST}_") else table


def read_table(data: Path, table: str) -> pd.DataFrame:
    """DATA/table.csv with its documented columns checked; DataError names the table, column and row."""
    path = data / f"{table}.csv"
    try:
        frame = pd.read_csv(path, low_memory=False)
    except FileNotFoundError as error:
        raise DataError(
            where=str(path), given="", rule="no such table", way_out="--data names the folder that holds the tables"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(where=str(path), given=str(error).strip(), rule="cannot be read as CSV") from error
    check_columns(frame, table)
    return frame


def check_columns(frame: pd.DataFrame, table: str) -> None:
    """Raise DataError for a missing input column, or a cell that should be a number and is not."""
    kind = kind_of(table)
    for column in (*TEXTS.get(kind, ()), *NUMBERS.get(kind, ())):
        if column not in frame.columns:
            raise DataError(
                where=f"{table}.csv", given=f"columns {', '.join(map(str, frame.columns[:6]))} ...",
                rule=f"needs the column {column!r}", way_out="the README of the data names the columns",
            )  # fmt: skip
    for column in TEXTS.get(kind, ()):
        if not pd.api.types.is_string_dtype(frame[column]):
            frame[column] = frame[column].astype(object)  # a column without a word is read as numbers
    for column in (*NUMBERS.get(kind, ()), *(c for c in OUTCOMES.get(kind, ()) if c in frame.columns)):
        numbers = pd.to_numeric(frame[column], errors="coerce")
        bad = numbers.isna() & frame[column].notna() & (frame[column].astype(str).str.strip() != "")
        negative = (numbers < 0) & (column not in SIGNED)
        for rule, rows in (("must be a number", bad), ("must not be negative", negative)):
            if rows.any():
                row = int(rows.to_numpy().argmax())
                raise DataError(
                    where=f"{table}.csv: row {row + 2}: {column}", given=repr(frame[column].iloc[row]), rule=rule
                )
        frame[column] = numbers


def without_outcomes(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """The input columns only: what a predictor may see."""
    return frame.drop(columns=[column for column in OUTCOMES.get(kind_of(table), ()) if column in frame.columns])
