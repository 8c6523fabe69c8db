"""Errors say where, what was given, the rule and a way out, and survive being rebuilt."""

import copy
import inspect
import pickle

import pytest

from simulator import errors
from simulator.errors import LayoutError, ShardsimError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ShardsimError)]


def test_it_reads_as_one_sentence() -> None:
    error = LayoutError(where="layout.tp", given="6", rule="does not divide num_key_value_heads = 8", way_out="use 4")
    assert str(error) == "layout.tp: 6: does not divide num_key_value_heads = 8; use 4"
    assert str(LayoutError(given="", rule="must be whole")) == "must be whole"


def test_places_join_from_the_outside_in() -> None:
    error = LayoutError(where="tp", given="6", rule="no").at("pools[1].layout").at("pd.yaml: ")
    assert str(error) == "pd.yaml: pools[1].layout.tp: 6: no"


@pytest.mark.parametrize("kind", KINDS)
def test_rebuilt_errors_are_the_same(kind: type[ShardsimError]) -> None:
    error = kind(where="a", given="b", rule="c", way_out="d")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), type(error)(*error.args)):
        assert type(twin) is kind
        assert str(twin) == str(error)


def test_the_drawing_names_every_kind() -> None:
    drawn = (errors.__doc__ or "").split()
    assert {kind.__name__ for kind in KINDS} <= set(drawn)


def test_a_user_can_catch_them_all() -> None:
    assert all(kind.exit_status == 2 for kind in KINDS)
