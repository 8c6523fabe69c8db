"""Predictions of serving_pd: what a row's words become, and that a prediction sees inputs only."""

from pathlib import Path

import pandas as pd
import pytest

from simulator.errors import DataError
from simulator.validation import table_pd
from simulator.validation.context import Context
from simulator.validation.table_pd import OUTCOMES, engine_name, fleet_of, layout_of, pools_of, predict
from simulator.validation.tables import read_table

DATA = Path(__file__).parents[1].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the measured tables lie beside the repository")


def rows(count: int) -> pd.DataFrame:
    """Small rows of several GPUs."""
    frame = read_table(DATA, "serving_pd")
    small = frame[(frame.concurrency <= 8) & (frame.osl_nominal == 1024)]
    return small.drop_duplicates("gpu").head(count)


def test_names_of_engines_with_their_transfer_library() -> None:
    assert engine_name("SGLang-MoRI") == "sglang"
    assert engine_name("TensorRT-LLM") == "tensorrt-llm"
    with pytest.raises(DataError, match="no scheduler"):
        engine_name("Triton")


@needs_data
def test_a_rows_pools_are_as_its_columns_say() -> None:
    context = Context(DATA)
    frame = read_table(DATA, "serving_pd")
    for _, row in frame.drop_duplicates(["gpu", "framework", "decode_ep", "spec_decoding"]).iterrows():
        prefill, decode = pools_of(row, context)
        assert prefill.workers * prefill.setup.layout.ranks == row.prefill_gpus
        assert decode.workers * decode.setup.layout.ranks == row.decode_gpus
        assert prefill.policy.draft_tokens == 0
        assert (decode.policy.draft_tokens > 0) == (row.spec_decoding != "none")
        layout = layout_of(row, "decode", decode.setup.architecture)
        assert (256 + layout.redundant_experts) % layout.ep == 0 or row.model.startswith(("moonshotai", "nvidia"))


@needs_data
def test_heads_and_latents_are_counted_as_often_as_they_move() -> None:
    """Latents of DeepSeek go to every rank of a tensor group: 8 copies with TP 8, one with attention data parallel."""
    frame = read_table(DATA, "serving_pd")
    deep = frame[frame.model_family.str.startswith("DeepSeek") & (frame.gpu == "H200")]
    context = Context(DATA)
    moved = {}
    for tp in (8, 1):
        row = deep[deep.decode_tp == tp].sort_values("concurrency").iloc[0]
        fleet = fleet_of(row, pools_of(row, context), _needs(row, context))
        assert fleet.transfer is not None
        moved[tp] = fleet.transfer.kv_bytes(1000)
    assert moved[8] == pytest.approx(8 * moved[1], rel=0.05)


def _needs(row: pd.Series, context: Context) -> dict[object, object]:
    needs: dict[object, object] = {}
    for pool in pools_of(row, context):
        table_pd._reach(needs, pool, row)  # type: ignore[arg-type]
    return needs


@needs_data
def test_small_rows_are_predicted_from_their_inputs_alone() -> None:
    frame = rows(2)
    inputs = frame.drop(columns=[name for name in OUTCOMES if name in frame.columns])
    answer = predict(inputs, Context(DATA))
    assert (answer.not_covered_because == "").all()
    measured = frame.median_tpot_s.fillna(frame.mean_tpot_s)
    assert (answer.predicted_median_tpot_s / measured).between(0.5, 2.0).all()
    rate = answer.predicted_total_tokens_per_s_per_gpu * (frame.prefill_gpus + frame.decode_gpus)
    parts = answer.predicted_output_tokens_per_s_per_decode_gpu * frame.decode_gpus
    parts += answer.predicted_input_tokens_per_s_per_prefill_gpu * frame.prefill_gpus
    assert rate.to_numpy() == pytest.approx(parts.to_numpy())
