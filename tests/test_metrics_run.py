"""From logs to answers: frames hold every record, sums are conserved, the sentences follow from the numbers."""

import numpy as np
import pandas as pd
import pytest
from deployments import LLAMA, MOE, mixed, parted, short

from simulator.engine.deployment import Numbers, StepWorkload
from simulator.metrics import result as module
from simulator.metrics import run as metrics
from simulator.metrics.result import RunResult
from simulator.metrics.run import run_deployment
from simulator.parallel.layout import Layout
from simulator.program.frame import Options


@pytest.fixture(scope="module")
def dense() -> RunResult:
    return run_deployment(
        mixed(Layout(tp=8), numbers=Numbers(decode_steps=2, dtypes=("float64", "bfloat16", "float32")))
    )


@pytest.fixture(scope="module")
def sparse() -> RunResult:
    return run_deployment(mixed(Layout(dp_attention=8, ep=8), MOE, options=Options(expert_skew=0.4)))


@pytest.fixture(scope="module")
def handed() -> RunResult:
    return run_deployment(parted(Layout(tp=2), Layout(tp=8)))


@pytest.mark.parametrize("which", ["dense", "sparse", "handed"])
def test_columns_are_those_documented(which: str, request: pytest.FixtureRequest) -> None:
    result: RunResult = request.getfixturevalue(which)
    told = {name.strip(",.()") for name in (module.__doc__ or "").replace("\n", " ").split()}
    for name in ("ops", "transfers", "links", "steps", "memory", "numerics", "expert_load", "handover"):
        frame = getattr(result, name)
        assert isinstance(frame, pd.DataFrame)
        assert {str(column) for column in frame.columns} <= told, name
    assert result.fits
    assert result.events > 0


def test_steps_say_where_time_went(dense: RunResult) -> None:
    steps = dense.steps
    assert list(steps["phase"]) == ["prefill", "decode", "decode"]
    assert dense.prefill_s == steps["time_s"][0]
    assert dense.decode_s == pytest.approx(steps["time_s"][1:].mean())
    parts = steps["compute_s"] + steps["exposed_comm_s"] + steps["idle_s"]
    np.testing.assert_allclose(parts, steps["time_s"], rtol=1e-9)
    assert (steps["exposed_comm_s"] <= steps["comm_s"] + 1e-15).all()
    assert ((steps["floor_s"] > 0) & (steps["floor_s"] <= steps["time_s"])).all()
    ops = dense.ops
    assert (ops["end_s"] >= ops["start_s"]).all()
    for row in steps.itertuples():
        mine = ops[(ops["step"] == row.step) & (ops["stream"] == "compute")]
        assert (mine["end_s"] - mine["start_s"]).sum() / 8 == pytest.approx(row.compute_s)


def test_correctness_is_that_of_the_miniature(dense: RunResult, handed: RunResult) -> None:
    for result in (dense, handed):
        told = result.correctness
        assert told.checked
        assert told.tokens_equal
        assert told.sharded == told.reference
        assert (told.prompts, told.tokens_per_prompt) == (4, 3)
        assert told.largest_error < 1e-9


def test_numerics_have_one_row_a_probe_and_order_by_format(dense: RunResult) -> None:
    worst = dense.numerics.groupby("dtype")["max_relative_error"].max()
    assert worst["float64"] < 1e-12 < worst["float32"] < 1e-4 < worst["bfloat16"] < 0.5
    assert not dense.numerics.duplicated(["dtype", "pool", "layer", "probe"]).any()


def test_a_difference_in_tokens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    true = metrics.simulate

    def wrong(*args: object) -> object:
        simulation = true(*args)  # type: ignore[arg-type]
        simulation.miniatures[0].sampled[0][0] += 1
        return simulation

    monkeypatch.setattr(metrics, "simulate", wrong)
    assert not run_deployment(mixed(Layout(tp=2))).correctness.tokens_equal


def test_without_numbers_nothing_is_claimed() -> None:
    told = run_deployment(mixed(Layout(tp=2), numbers=Numbers(enabled=False))).correctness
    assert not told.checked
    assert not told.tokens_equal
    assert "switched off" in told.reason


def ring_traffic(result: RunResult, kind: str) -> float:
    """Bytes that rings of `kind` over all eight GPUs carry over all ports, both directions."""
    messages = result.ops[(result.ops["kind"] == kind) & (result.ops["rank"] == 0)]["bytes"].sum()
    factor = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0}[kind]
    return factor * 7 / 8 * float(messages) * 16


@pytest.mark.parametrize("fidelity", ["closed_form", "stepwise", "flow"])
def test_link_bytes_are_those_of_the_algorithm(fidelity: str) -> None:
    """Whatever the fidelity: what rings carry, no more and no less."""
    deployment = mixed(
        Layout(tp=8), fidelity=fidelity, algorithms={"all_reduce": "ring", "all_gather": "ring"},
        numbers=Numbers(enabled=False),
    )  # fmt: skip
    result = run_deployment(deployment)
    expected = ring_traffic(result, "all_reduce") + ring_traffic(result, "all_gather")
    if fidelity == "flow":  # where a protocol wastes part of a link, flows are as much longer or shorter
        assert result.links["bytes"].sum() == pytest.approx(expected, rel=0.25)
    else:
        assert result.links["bytes"].sum() == pytest.approx(expected)
    assert (result.links["busy_s"] > 0).all()
    assert result.links["busy_s"].is_monotonic_decreasing
    assert set(result.links["link_class"]) == {"NVLink"}


def test_expected_and_routed_experts_are_shares(sparse: RunResult) -> None:
    for _, layer in sparse.expert_load.groupby("layer"):
        assert layer["expected_share"].sum() == pytest.approx(1.0)
        assert layer["routed_share"].sum() == pytest.approx(1.0)
        assert layer["routed_tokens"].sum() == (5 + 9 + 3 + 7 + 2 * 4) * 8
    assert sparse.expert_load["expected_share"].iloc[0] > sparse.expert_load["expected_share"].iloc[1]


def test_handover_frame_adds_up(handed: RunResult) -> None:
    frame = handed.handover
    assert set(frame["destination_rank"]) == set(range(8))
    per_token = 4 * 2 * 8 * 128 * 2  # layers, k and v, heads, head_dim, bf16
    assert (frame["bytes"] - frame["duplicate_bytes"]).sum() == pytest.approx(6 * 64 * per_token)
    assert frame["duplicate_bytes"].sum() == 0
    assert (frame["end_s"] > frame["start_s"]).all()
    decode = handed.steps[handed.steps["phase"] == "decode"]["start_s"].min()
    assert decode >= frame["end_s"].max()


def test_duplicated_heads_are_counted() -> None:
    result = run_deployment(
        parted(Layout(tp=2), Layout(tp=16 // 2, dp=1), short(LLAMA, 2), workload=StepWorkload(3, 32, 1))
    )
    assert result.handover["duplicate_bytes"].sum() == 0
    wide = run_deployment(parted(Layout(tp=2), Layout(tp=8), MOE, workload=StepWorkload(3, 32, 1)))
    whole = wide.handover["bytes"].sum() - wide.handover["duplicate_bytes"].sum()
    assert wide.handover["duplicate_bytes"].sum() == pytest.approx(whole), "4 KV heads on 8 ranks: each twice"


def test_memory_frame_has_every_rank(dense: RunResult) -> None:
    memory = dense.memory
    assert list(memory["rank"]) == list(range(8))
    parts = memory["weights_bytes"] + memory["kv_cache_bytes"] + memory["activations_bytes"]
    np.testing.assert_allclose(parts, memory["total_bytes"])
    assert (memory["total_bytes"] < memory["capacity_bytes"]).all()


def test_what_binds_follows_the_time() -> None:
    """A long prefill is bound by compute, a lone decode by memory, and many ranks with little to do by links."""
    off = Numbers(enabled=False)
    long = run_deployment(mixed(Layout(), workload=StepWorkload(4, 4096, 0), numbers=off))
    assert long.binds.startswith("prefill is bound by kernels at the tensor cores' rate")
    few = run_deployment(mixed(Layout(), workload=StepWorkload(4, 512, 2), numbers=off))
    assert few.binds.startswith("decode is bound by kernels that wait for HBM")
    wide = run_deployment(mixed(Layout(tp=16), nodes=2, workload=StepWorkload(4, 64, 2), numbers=off))
    assert "communication" in wide.binds
