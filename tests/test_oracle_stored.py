"""The reference against stored outputs of Hugging Face transformers (see docs/numerics.md); needs no torch."""

import pytest
from oracle_cases import CONFIGS, FOLDER, TOLERANCE, largest_error, load, reference, run


@pytest.mark.parametrize("family", CONFIGS)
def test_the_reference_computes_what_transformers_computed(family: str) -> None:
    expected = load(family)
    model = reference(family, expected)
    assert largest_error(model, expected) < TOLERANCE
    assert run(model)[1] == expected.tokens


def test_stored_outputs_stay_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 200_000
