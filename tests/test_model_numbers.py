"""Every family said to be computed runs: a step after a cache equals the same step without one."""

import numpy as np
import pytest
from model_samples import CONFIGS

from simulator.model.from_config import architecture_from_config
from simulator.model.miniature import miniature
from simulator.numeric.reference import ReferenceModel
from simulator.numeric.weights import random_weights

PROMPT = (3, 17, 5, 30, 11, 2, 26, 9, 33, 14, 7, 41, 12)
"""Longer than the miniature's windows (5) and chunks (6)."""
COMPUTED = [name for name, config in CONFIGS.items() if not architecture_from_config(config, name).numbers_refused]


def test_the_computed_families_are_the_ones_the_documentation_lists() -> None:
    assert set(COMPUTED) == {
        "llama", "mistral", "qwen2", "qwen3", "phi3", "mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "llama4",
        "deepseek", "deepseek_v2", "deepseek_v3", "kimi_k2", "glm4_moe", "glm4_moe_lite", "minimax_m2", "gpt2",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_prefill_then_decode_equals_one_prefill(name: str) -> None:
    small = miniature(architecture_from_config(CONFIGS[name], name), hidden=32, head_dim=4, vocab=64)
    model = ReferenceModel(small, random_weights(small, 5))
    whole = model.forward([PROMPT]).logits[0]
    first = model.forward([PROMPT[:-1]])
    stepped = model.forward([PROMPT[-1:]], first.caches).logits[0]
    assert np.isfinite(whole).all()
    assert np.allclose(stepped, whole, rtol=1e-9, atol=1e-12)
    other = model.forward([(4, *PROMPT[1:])]).logits[0]
    reached = not np.allclose(other, whole, rtol=1e-6)
    assert reached == (name != "mistral")  # all of Mistral's layers slide; elsewhere some layer sees the first token


def test_a_window_hides_what_lies_before_it() -> None:
    """All layers slide in Mistral: with two layers of window 5 nothing older than 8 tokens reaches the last."""
    small = miniature(architecture_from_config(CONFIGS["mistral"], "m"), hidden=32, head_dim=4, vocab=64)
    model = ReferenceModel(small, random_weights(small, 5))
    whole = model.forward([PROMPT]).logits[0]
    reach = 2 * (5 - 1) + 1
    hidden = model.forward([(*(50 + i for i in range(len(PROMPT) - reach)), *PROMPT[-reach:])]).logits[0]
    assert np.allclose(hidden, whole, rtol=1e-12)
    seen = model.forward([(*PROMPT[:-reach], 60, *PROMPT[-reach + 1 :])]).logits[0]
    assert not np.allclose(seen, whole, rtol=1e-6)
