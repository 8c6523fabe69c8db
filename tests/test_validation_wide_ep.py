"""Wide expert parallelism: reports in words become pools, and pools become rates, times and costs."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from simulator.model.catalogue import find_model
from simulator.validation.context import Context
from simulator.validation.run import predict_table
from simulator.validation.table_wide_ep import model_of, predict
from simulator.validation.tables import NUMBERS, TEXTS
from simulator.validation.wide_ep_step import copies_of, mixture_of, timing
from simulator.validation.wide_ep_text import (
    WideRow,
    amount,
    cached_of,
    node_of,
    phase_of,
    pool_gpus,
    precision_of,
    ranks_of,
    read_row,
)  # fmt: skip

DATA = Path(__file__).parents[1].parent / "shared" / "data"
NAME = "wide_ep_production"
ROW = dict.fromkeys((*TEXTS[NAME], *NUMBERS[NAME])) | {
    "model": "DeepSeek-V3/R1", "gpu": "H100", "gpus": 72.0, "nodes": 9.0, "framework": "SGLang", "precision": "FP8",
    "topology": "decode EP72 (9 nodes)", "phase": "decode", "isl": "2048", "batch_per_gpu": 256.0, "speculative": 0,
    "metric": "decode throughput per node", "unit": "tok/s/node", "osl": None,
}  # fmt: skip
PREFILL = {
    "gpus": 32.0, "nodes": 4.0, "topology": "prefill EP32 (4 nodes, EPLB)", "phase": "prefill",
    "metric": "prefill throughput per node", "batch_per_gpu": 16384.0,
}  # fmt: skip


def row(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(**(ROW | changes))


def values(*changes: dict[str, object]) -> list[float]:
    frame = pd.DataFrame([ROW | change for change in changes])
    answer = predict(frame, Context(Path("/nowhere")))
    assert (answer.not_covered_because == "").all(), answer.not_covered_because.tolist()
    return answer.predicted_value.tolist()


@pytest.mark.parametrize(
    ("topology", "gpus", "prefill", "decode"),
    [
        ("prefill EP32 (4 nodes, 32 redundant experts)", 32, 32, 32), ("EP32/EP72", 96, 32, 72),
        ("4P12D, prefill EP32, decode EP96", 128, 32, 96), ("PD on 12 nodes (96 GPUs)", 96, 32, 64),
        ("4P12D", 128, 32, 96), ("DEP16", 16, 16, 16), ("EP8 prefill, EP64 decode", 72, 8, 64), ("wide EP", 48, 48, 48),
    ],
)  # fmt: skip
def test_ranks_of_a_topology_in_words(topology: str, gpus: int, prefill: int, decode: int) -> None:
    told = row(topology=topology, gpus=float(gpus))
    assert (ranks_of(told, "prefill"), ranks_of(told, "decode")) == (prefill, decode)


def test_words_become_numbers() -> None:
    assert [amount(x) for x in ("4096", "2K", "1,024 tokens", "avg", None, 7.0)] == [4096, 2000, 1024, 0, 0, 7]
    assert precision_of("FP8 GEMM/dispatch BF16 MLA/combine") == "fp8"
    assert cached_of(row(qualifier="includes cache hits (~56.3%)")) == pytest.approx(0.563)
    assert cached_of(row(qualifier="headline")) == 0.0
    assert node_of(row()) == 8
    assert node_of(row(gpu="GB200", gpus=56.0, nodes=14.0)) == 72
    assert phase_of(row(phase=None, metric="headline input throughput per node")) == "prefill"
    assert phase_of(row(phase=None, metric="ITL")) == "decode"
    assert phase_of(row(phase=None, metric="gain")) is None
    assert read_row(row(topology="prefill EP32 (32 redundant experts)"), "prefill").redundant == 32
    assert pool_gpus(row(topology="4P12D", gpus=128.0), "decode") == 96
    assert model_of("Kimi-K2/K9", Context(Path("/nowhere"))) == "Kimi-K2"


def test_copies_fill_the_ranks_evenly() -> None:
    assert [copies_of(256, ep, -1) for ep in (8, 32, 72, 144, 64, 48)] == [0, 32, 32, 32, 0, 32]
    assert copies_of(256, 32, 32) == 32
    for ep in (7, 24, 56, 320):
        assert (256 + copies_of(256, ep, -1)) % ep == 0
    assert mixture_of(find_model("deepseek-ai/DeepSeek-V3")).experts == 256


def test_units_say_the_same_rate() -> None:
    node, gpu, all_of_them, user, ms, cost = values(
        {}, {"unit": "tok/s/GPU", "metric": "decode rate"}, {"unit": "tok/s", "metric": "total decode throughput"},
        {"unit": "tok/s", "metric": "output speed per request"}, {"unit": "ms", "metric": "ITL"},
        {"unit": "$/M output tok", "metric": "output cost"},
    )  # fmt: skip
    assert node == pytest.approx(8 * gpu)
    assert all_of_them == pytest.approx(72 * gpu)
    assert user == pytest.approx(gpu / 256)
    assert ms == pytest.approx(1e3 / user)
    assert cost == pytest.approx(2.0 / 3600 / gpu * 1e6)


def test_physics_of_a_pool() -> None:
    base, longer, smaller, drafted = values({}, {"isl": "8192"}, {"batch_per_gpu": 64.0}, {"speculative": 1})
    assert longer < base
    assert smaller < base < drafted
    prompts, long_prompts, hits = values(
        PREFILL | {"isl": "1024"}, PREFILL | {"isl": "8192"},
        PREFILL | {"isl": "1024", "qualifier": "cache hits (~50%)"},
    )  # fmt: skip
    assert long_prompts < prompts
    assert 1.2 * prompts < hits < 2.05 * prompts
    low, high = values(*(PREFILL | {"metric": f"TTFT {word}", "unit": "s", "isl": "1024"} for word in ("low", "high")))
    assert high == pytest.approx(2 * low)


def test_overlap_helps_large_batches_and_hurts_small_ones() -> None:
    context = Context(Path("/nowhere"))

    def gain(batch: int) -> float:
        pool = WideRow("decode", 72, 1, -1, 8, batch, 2048, 0.0, "fp8", False)
        step = timing(pool, "DeepSeek-V3", "H100", "SGLang", context)
        assert step.step_s == min(step.plain_s, step.overlapped_s)
        return step.plain_s / step.overlapped_s

    assert gain(256) > 1.2
    assert gain(16) < 1.0


def test_batches_that_are_not_stated_are_what_memory_holds() -> None:
    short, long = values(
        *({"batch_per_gpu": None, "isl": isl, "metric": "ITL", "unit": "ms"} for isl in ("2048", "65536"))
    )
    assert short > long  # few sequences of 64k tokens fit


def test_what_no_step_can_tell_is_refused_by_name() -> None:
    frame = pd.DataFrame(
        [ROW | {"metric": metric, "unit": unit} for metric, unit in (
            ("daily cost", "$/day"), ("EPLB decode gain", "x"), ("dispatch latency actual", "ms"), ("decode", "x"),
        )] + [ROW | {"topology": "fleet", "gpus": None}, ROW | {"model": "meta-llama/Llama-3.1-8B"}]
    )  # fmt: skip
    reasons = predict(frame, Context(Path("/nowhere"))).not_covered_because
    for reason, said in zip(
        reasons, ("operators", "balancing", "wait for each other", "unit x", "neither EP", "no experts"), strict=True
    ):
        assert said in reason


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured tables are not here")
def test_published_rates_are_near() -> None:
    frame, answer = predict_table(NAME, DATA)
    apes = (answer.predicted_tokens_per_s_per_gpu / frame.tokens_per_s_per_gpu - 1).abs().dropna()
    assert len(apes) == frame.tokens_per_s_per_gpu.notna().sum()
    assert apes.median() < 0.15
    assert apes.max() < 0.30
