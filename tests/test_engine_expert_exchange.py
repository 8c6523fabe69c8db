"""Which collectives carry tokens to experts, by engine."""

from dataclasses import replace

import pytest

from simulator.cost.engine_profile import find_engine
from simulator.cost.table import Setup
from simulator.cost.table.direct import DirectPricer
from simulator.engine.expert_exchange import with_exchange
from simulator.hardware.catalogue import find_device
from simulator.model.catalogue import find_model
from simulator.model.quantization import with_precision
from simulator.parallel.layout import Layout
from simulator.program.ops import Collective
from simulator.program.work import Sequence, Work
from simulator.validation.links import group_links


def setup(engine: str, layout: Layout, precision: str = "nvfp4", gpu: str = "GB200-NVL72") -> Setup:
    model = find_model("deepseek-ai/DeepSeek-R1")
    model = replace(model, quantization=with_precision(model.quantization, precision))
    return with_exchange(
        Setup(model, layout, find_device(gpu), lambda axes: group_links(gpu, layout.size(axes), 4), find_engine(engine))
    )


def moved(given: Setup, tokens: int = 1000) -> dict[str, float]:
    """Bytes of the exchange's collectives in one expert layer of a prompt."""
    program = DirectPricer(given).program(0, Work((Sequence(0, tokens, 0),)), 0.0)
    ops = (op for op in program.segments[-2].ops if isinstance(op, Collective))
    return {op.name: op.bytes for op in ops if op.name.startswith(("dispatch", "combine"))}


@pytest.mark.parametrize(("precision", "size"), [("nvfp4", 0.5 + 1 / 16), ("fp8_block", 2.0)])
def test_tensorrt_llm_gathers_where_a_token_visits_every_rank(precision: str, size: float) -> None:
    found = moved(setup("TensorRT-LLM", Layout(dp_attention=4, ep=4), precision))
    everyone = 4 * 1000 * 7168
    assert found == {"dispatch_all_gather": everyone * size, "combine_reduce_scatter": everyone * 2.0}


def test_tensorrt_llm_sends_to_visited_ranks_beyond_top_k() -> None:
    given = setup("TensorRT-LLM", Layout(dp_attention=16, ep=16))
    assert given.program.expert_kernel == "trtllm_one_sided"
    assert set(moved(given)) == {"dispatch", "combine"}


def test_what_has_no_exchange_or_another_engine_stays() -> None:
    for engine, layout in (
        ("TensorRT-LLM", Layout(tp=8, ep=8)),
        ("TensorRT-LLM", Layout(dp_attention=8)),
        ("SGLang", Layout(dp_attention=8, ep=8)),
    ):
        given = setup(engine, layout)
        assert given.layout == layout
        assert given.program.dispatch_dtype == "bf16"
