"""The reference against Hugging Face transformers, run now: pytest -m oracle (extra `oracle`)."""

import json
from pathlib import Path

import numpy as np
import pytest
from oracle_cases import (
    CONFIGS,
    LONG_PROMPT,
    PROMPTS,
    TOLERANCE,
    architecture,
    largest_error,
    load,
    reference,
    relative_error,
)

from simulator.model.from_config import architecture_from_config
from simulator.numeric.reference import ReferenceModel
from simulator.numeric.weights import load_safetensors, weights_from_state_dict

# torch and transformers warn of their own deprecations, which are not ours to mend.
pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]
FAMILIES = pytest.mark.parametrize("family", CONFIGS)


@FAMILIES
def test_transformers_still_computes_what_is_stored(family: str) -> None:
    oracle = pytest.importorskip("oracle_transformers")
    now, stored = oracle.compute(family), load(family)
    assert now.shapes == stored.shapes
    assert now.tokens == stored.tokens
    for one, other in zip(now.logits, stored.logits, strict=True):
        assert relative_error(one, other) < TOLERANCE
    assert largest_error(reference(family, now), now) < TOLERANCE


@FAMILIES
@pytest.mark.parametrize("seed", [1, 2])
def test_a_checkpoint_folder_of_other_weights(family: str, seed: int, tmp_path: Path) -> None:
    """As a user would: our config reader and our safetensors reader on the folder transformers reads.

    With a prompt longer than the context that llama3 and YaRN scaling start from.
    """
    prompts = (*PROMPTS, LONG_PROMPT)
    oracle = pytest.importorskip("oracle_transformers")
    shapes = load(family).shapes
    oracle.write_checkpoint(family, shapes, tmp_path, seed)
    logits, tokens = oracle.run(oracle.load(family, tmp_path), prompts)
    arch = architecture_from_config(json.loads((tmp_path / "config.json").read_text()), family)
    model = ReferenceModel(arch, load_safetensors(arch, tmp_path))
    assert largest_error(model, oracle.Expected(shapes, logits, tokens), prompts) < TOLERANCE


@FAMILIES
def test_the_state_dict_in_memory_holds_the_weights_of_the_file(family: str, tmp_path: Path) -> None:
    """transformers fuses experts in memory, interleaves or transposes some, and splits them again in files."""
    oracle = pytest.importorskip("oracle_transformers")
    oracle.write_checkpoint(family, load(family).shapes, tmp_path)
    arch = architecture(family)
    state = oracle.load(family, tmp_path).state_dict()
    in_memory, in_file = weights_from_state_dict(arch, state), load_safetensors(arch, tmp_path)
    assert in_memory.keys() == in_file.keys()
    for name, array in in_file.items():
        np.testing.assert_array_equal(in_memory[name], array, err_msg=name)
