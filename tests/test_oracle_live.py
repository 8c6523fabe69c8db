"""The reference against Hugging Face transformers, run now: pytest -m oracle (extra `oracle`)."""

from pathlib import Path

import pytest
from oracle_cases import CONFIGS, TOLERANCE, largest_error, load, reference, relative_error

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("family", CONFIGS)
def test_live(family: str, tmp_path: Path) -> None:
    oracle = pytest.importorskip("oracle_transformers")
    expected = oracle.compute(family)
    assert largest_error(reference(family, expected), expected) < TOLERANCE
    stored = load(family)
    assert stored.shapes == expected.shapes
    assert stored.tokens == expected.tokens
    for now, then in zip(expected.logits, stored.logits, strict=True):
        assert relative_error(now, then) < TOLERANCE
