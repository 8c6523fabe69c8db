"""A miniature keeps every kind of layer and every count a layout cuts, at widths a laptop computes."""

from math import isclose, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_samples import CONFIGS

from simulator.errors import LayoutError, ModelError
from simulator.model.architecture import (
    Architecture,
    DenseMlp,
    GroupedQueryAttention,
    LatentAttention,
    LinearAttention,
    MixtureOfExperts,
)
from simulator.model.catalogue import entries, find_model
from simulator.model.counts import parameter_counts
from simulator.model.from_config import architecture_from_config
from simulator.model.miniature import kept_layers, miniature
from simulator.parallel.layout import Layout
from simulator.program.legality import check_layout

MODELS = sorted(entry.name for entry in entries() if not entry.storage)


@pytest.mark.parametrize("name", MODELS)
def test_kinds_and_counts_stay_and_widths_shrink(name: str) -> None:
    big = find_model(name)
    small, kept = miniature(big), kept_layers(big)
    assert len(small.layers) == len(kept) <= 5
    assert {big.layers[index] for index in kept} == set(big.layers)
    assert (kept[0], kept[-1]) == (0, len(big.layers) - 1)
    assert len(small.distinct_layers) == len(big.distinct_layers)
    assert parameter_counts(small).total < 15e6
    assert (small.family, small.numbers_refused, small.tie_embeddings) == (
        big.family, big.numbers_refused, big.tie_embeddings
    )  # fmt: skip
    for index, layer in zip(kept, small.layers, strict=True):
        _check_attention(big, index, layer.attention)
        before, after = big.layers[index].feed_forward, layer.feed_forward
        assert type(before) is type(after)
        if isinstance(before, MixtureOfExperts) and isinstance(after, MixtureOfExperts):
            assert (before.experts, before.top_k, before.router) == (after.experts, after.top_k, after.router)
            assert (before.shared_intermediate > 0) == (after.shared_intermediate > 0)


def _check_attention(big: Architecture, index: int, after: object) -> None:
    before = big.layers[index].attention
    assert type(before) is type(after)
    if isinstance(before, GroupedQueryAttention) and isinstance(after, GroupedQueryAttention):
        assert (before.heads, before.kv_heads, before.sinks, before.qk_norm) == (
            after.heads, after.kv_heads, after.sinks, after.qk_norm
        )  # fmt: skip
        assert (before.window is None) == (after.window is None)
        assert isclose(after.scale, before.scale * sqrt(before.head_dim / after.head_dim))
        assert after.rope is None or (after.rope.dim <= after.head_dim and after.rope.dim % 2 == 0)
        partial = before.rope is not None and before.rope.dim < before.head_dim
        assert not partial or (after.rope is not None and after.rope.dim < after.head_dim)
    if isinstance(before, LatentAttention) and isinstance(after, LatentAttention):
        assert before.heads == after.heads
        assert (before.q_lora_rank is None) == (after.q_lora_rank is None)
        assert after.rope.dim == after.rope_head_dim
    if isinstance(before, LinearAttention) and isinstance(after, LinearAttention):
        assert (before.key_heads, before.value_heads) == (after.key_heads, after.value_heads)


_SIZES = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 28, 32, 56, 64, 96, 128])


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(MODELS), _SIZES, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8, 16, 64]))
def test_layouts_legal_on_the_model_are_legal_on_the_miniature(name: str, tp: int, dp: int, moe_tp: int) -> None:
    big = find_model(name)
    block = tp * dp
    ep = block // moe_tp if block % moe_tp == 0 else 1
    if ep == 1 and block > 64:
        return  # tensor parallelism inside an expert is promised up to 64
    layout = Layout(tp=tp, dp_attention=dp, ep=ep)
    if _legal(big, layout):
        check_layout(miniature(big), layout)


def _legal(architecture: Architecture, layout: Layout) -> bool:
    try:
        check_layout(architecture, layout)
    except LayoutError:
        return False
    return True


def test_planted_bug_a_width_that_tp_does_not_divide_is_seen() -> None:
    """The property above has teeth: a miniature of plain width 90 fails the layout its model takes."""
    big = find_model("meta-llama/Llama-3.1-70B")
    layout = Layout(tp=64)
    assert _legal(big, layout)
    assert _legal(miniature(big), layout)
    tiny = architecture_from_config({**CONFIGS["llama"], "intermediate_size": 90, "num_attention_heads": 12}, "tiny")
    assert not _legal(tiny, Layout(tp=4))


def test_windows_matter_on_short_prompts_and_differ() -> None:
    oss = miniature(find_model("openai/gpt-oss-20b"))
    windows = [layer.attention.window for layer in oss.layers if isinstance(layer.attention, GroupedQueryAttention)]
    assert windows == [5, None]
    scout = miniature(find_model("meta-llama/Llama-4-Scout-17B-16E"))
    first, last = (layer.attention for layer in scout.layers)
    assert isinstance(first, GroupedQueryAttention)
    assert isinstance(last, GroupedQueryAttention)
    assert (first.chunk, last.chunk, last.temperature_tuning) == (6, None, (0.1, 3.0))


def test_at_least_gives_a_pipeline_its_depth() -> None:
    big = find_model("meta-llama/Llama-3.1-70B")
    assert kept_layers(big) == (0, 79)
    assert [len(kept_layers(big, depth)) for depth in (1, 4, 8, 100)] == [2, 4, 8, 80]
    assert kept_layers(big, 100) == tuple(range(80))
    assert len(miniature(big, layers=kept_layers(big, 8)).layers) == 8


def test_layers_may_be_chosen_and_experts_cut() -> None:
    v3 = find_model("deepseek-ai/DeepSeek-V3")
    small = miniature(v3, layers=(2, 3, 3), hidden=48, head_dim=4, vocab=101, max_experts=24)
    assert [type(layer.feed_forward) for layer in small.layers] == [DenseMlp, MixtureOfExperts, MixtureOfExperts]
    moe = small.layers[1].feed_forward
    assert isinstance(moe, MixtureOfExperts)
    assert (moe.experts, moe.top_k, moe.router.groups) == (24, 8, 8)
    assert (small.hidden, small.vocab) == (48, 101)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden": 0}, "miniature: hidden: 0: must be at least 1"),
        ({"head_dim": 7}, "head_dim: 7: must be even"),
        ({"layers": (80,)}, "must be layer indices from 0 to 79"),
        ({"layers": ()}, "must be layer indices"),
        ({"max_experts": -1}, "max_experts: -1: must be at least 1"),
    ],
)
def test_bad_sizes_are_told(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ModelError) as failure:
        miniature(find_model("meta-llama/Llama-3.1-70B"), **changes)  # type: ignore[arg-type]
    assert told in str(failure.value)
