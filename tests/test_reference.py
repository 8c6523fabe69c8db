"""Properties of the unsharded reference that need no second implementation."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_architectures import MINIATURES, gqa, mla, model, same

from simulator.errors import ModelError, NotBuiltError
from simulator.model.architecture import Attention, DenseMlp, Layer, LinearAttention, Rope
from simulator.numeric.reference import ReferenceModel
from simulator.numeric.weights import random_weights

FAMILIES = pytest.mark.parametrize("family", MINIATURES)


def reference(family: str, seed: int = 3) -> ReferenceModel:
    return ReferenceModel(MINIATURES[family], random_weights(MINIATURES[family], seed))


def prompts(*lengths: int, seed: int = 11) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 61, n).tolist() for n in lengths]


@FAMILIES
def test_activations_neither_vanish_nor_explode(family: str) -> None:
    step = reference(family).forward(prompts(17, 4))
    for layer in step.activations:
        for name in ("attn_out", "mlp_out", "hidden"):
            assert 0.01 < np.std(layer[name]) < 30, name
    assert 0.1 < np.std(step.logits) < 30


@FAMILIES
@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(1, 18), max_size=3, unique=True).map(sorted), other=st.integers(1, 9))
def test_prefill_in_pieces_equals_prefill_at_once(family: str, cuts: list[int], other: int) -> None:
    model = reference(family)
    whole, beside = prompts(19, other)
    at_once = model.forward([whole, beside])
    caches = None
    logits = []
    for start, end in zip([0, *cuts], [*cuts, 19], strict=True):
        step = model.forward([whole[start:end]], caches)
        caches = step.caches
        logits.append(step.all_logits[0])
    np.testing.assert_allclose(np.concatenate(logits), at_once.all_logits[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(at_once.logits[1], model.forward([beside]).logits[0], rtol=1e-10, atol=1e-12)


@FAMILIES
def test_later_tokens_do_not_change_earlier_ones(family: str) -> None:
    model = reference(family)
    [ids] = prompts(12)
    changed = [*ids[:7], *((np.array(ids[7:]) + 5) % 61).tolist()]
    one, two = model.forward([ids]).all_logits[0], model.forward([changed]).all_logits[0]
    np.testing.assert_array_equal(one[:7], two[:7])
    assert np.all(np.any(one[7:] != two[7:], axis=1))


@FAMILIES
def test_every_tensor_matters(family: str) -> None:
    """A reference that forgets a bias or a norm would still pass every property above."""
    arch = MINIATURES[family]
    weights = random_weights(arch, 3)
    ids = prompts(9, 14)
    before = np.concatenate(ReferenceModel(arch, weights).forward(ids).all_logits)
    for name, array in weights.items():
        changed = {**weights, name: np.roll(array, 1) * 1.1}
        after = np.concatenate(ReferenceModel(arch, changed).forward(ids).all_logits)
        # Without rotation a key bias shifts all scores of a query alike, which the softmax cancels.
        idle = family == "gpt3" and name.endswith("k_proj.bias")
        assert np.allclose(after, before, rtol=1e-9, atol=1e-9) == idle, name


@FAMILIES
def test_generate_equals_running_the_whole_text_again(family: str) -> None:
    model = reference(family)
    texts = prompts(5, 11)
    new = model.generate(texts, 4)
    for text, tokens in zip(texts, new, strict=True):
        for i, token in enumerate(tokens):
            assert token == model.forward([[*text, *tokens[:i]]]).next_tokens[0]


def test_window_and_chunk_hide_what_they_say() -> None:
    for family, first_seen in (("gpt_oss", 10 - 5), ("llama4", 6)):
        arch = MINIATURES[family]
        first = dataclasses.replace(arch, layers=arch.layers[:1])
        model = ReferenceModel(first, random_weights(first, 3))
        [ids] = prompts(10)
        hidden = model.forward([ids]).hidden[0][-1]
        for i in range(10):
            other = [*ids[:i], (ids[i] + 1) % 61, *ids[i + 1 :]]
            changed = not np.array_equal(hidden, model.forward([other]).hidden[0][-1])
            assert changed == (i >= first_seen), (family, i)


def test_weights_are_the_same_for_the_same_seed_and_name_only() -> None:
    small, large = (model("llama", *same(gqa(), DenseMlp(18), n)) for n in (1, 3))
    one, three = random_weights(small, 5), random_weights(large, 5)
    for name, array in one.items():
        np.testing.assert_array_equal(array, three[name])
    other = random_weights(small, 6)
    assert all(not np.array_equal(array, other[name]) for name, array in one.items())
    flat = [np.sort(array.ravel())[:5].tobytes() for array in three.values()]
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize(
    "attention",
    [
        LinearAttention(2, 4, 8, 8, 4),
        gqa(output_gate=True),
        gqa(sparse_top_k=4),
        gqa(shared_kv=True),
        gqa(kv_compression=4, window=8),
        gqa(q_lora_rank=8),
        gqa(output_groups=2, output_lora_rank=8),
        dataclasses.replace(mla(8), sparse_top_k=4),
    ],
)
def test_attention_that_is_not_built_is_refused(attention: Attention) -> None:
    arch = model("other", Layer(attention, DenseMlp(18)))
    with pytest.raises(NotBuiltError, match="not built"):
        ReferenceModel(arch, random_weights(arch, 1)).forward([[1, 2]])


def test_an_architecture_with_refused_numbers_and_a_rotary_scaling_not_built_are_refused() -> None:
    dynamic = model("llama", *same(gqa(rope=Rope(1e4, 8, scaling=(("type", "dynamic"),))), DenseMlp(18)))
    with pytest.raises(NotBuiltError, match=r"dynamic.*yarn"):
        ReferenceModel(dynamic, random_weights(dynamic, 1)).forward([[1, 2]])
    refused = dataclasses.replace(MINIATURES["llama"], numbers_refused="sparse attention is not built")
    with pytest.raises(NotBuiltError, match="sparse attention"):
        ReferenceModel(refused, {})


@FAMILIES
def test_a_missing_tensor_is_refused_by_name(family: str) -> None:
    weights = random_weights(MINIATURES[family], 3)
    for name in weights:
        with pytest.raises(ModelError, match=f"missing: {name}"):
            ReferenceModel(MINIATURES[family], {n: a for n, a in weights.items() if n != name})


def test_each_sequence_needs_its_cache() -> None:
    model = reference("llama")
    caches = model.forward(prompts(3, 5)).caches
    with pytest.raises(ModelError, match="2 caches for 1"):
        model.forward([[1]], caches)


@pytest.mark.parametrize("ids", [[], [61], [-1], [[1, 2]]])
def test_bad_tokens_are_refused(ids: list[int]) -> None:
    with pytest.raises(ModelError, match="token ids"):
        reference("llama").forward([ids])


def test_a_position_beyond_the_table_and_a_full_size_model_are_refused() -> None:
    with pytest.raises(ModelError, match="64 positions"):
        reference("gpt3").forward([prompts(65)[0]])
    big = dataclasses.replace(MINIATURES["llama"], vocab=202048, hidden=8192)
    with pytest.raises(ModelError, match="miniature"):
        random_weights(big, 1)
