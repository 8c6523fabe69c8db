"""YAML read with its lines; overrides laid over it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import ScenarioError
from simulator.scenario.document import Document, Keys, dotted, parse_document, parse_value, read_document
from simulator.scenario.overrides import apply_settings, parse_path, put

TEXT = """\
name: x  # one
layout:
  tp: 8
pools:
  - name: a
    gpus: 0-3
  - {name: b, gpus: [4, 5]}
shared: &s {seed: 3}
workload:
  <<: *s
  sequences: 7
"""

names = st.text("abcdefgh_", min_size=1, max_size=6)
scalars = st.none() | st.booleans() | st.integers(-99, 99) | st.text("xyz 0-9", max_size=5)
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


def paths(value: Any, at: Keys = ()) -> list[Keys]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in inside for path in [(*at, key), *paths(item, (*at, key))]]


def test_every_value_knows_its_line() -> None:
    document = parse_document(TEXT, "f.yaml")
    assert document.where(("name",)) == "f.yaml:1: name"
    assert document.where(("layout", "tp")) == "f.yaml:3: layout.tp"
    assert document.where(("pools", 0, "gpus")) == "f.yaml:6: pools[0].gpus"
    assert document.where(("pools", 1, "gpus")) == "f.yaml:7: pools[1].gpus"
    assert document.where(("layout", "missing")) == "f.yaml:2: layout.missing"
    assert document.values["workload"] == {"seed": 3, "sequences": 7}
    assert type(document.values["layout"]["tp"]) is int


def test_a_part_keeps_its_lines_and_is_a_copy() -> None:
    document = parse_document(TEXT, "f.yaml")
    part = document.part(("layout",))
    part.values["tp"] = 4
    assert part.where(("tp",)) == "f.yaml:3: tp"
    assert document.get(("layout", "tp")) == 8


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: [1, 2\n", 3, "is not YAML"),
        ("a: 1\nb: 2\na: 3\n", 3, 'duplicate key "a"'),
        ("a: 1\n  b: 2\n", 2, "is not YAML"),
        ("a: *nothing\n", 1, "is not YAML"),
    ],
)
def test_malformed_yaml_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_document(text, "f.yaml")
    assert said in str(caught.value)
    assert f"f.yaml:{line}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n", "3\n"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError):
        parse_document(text, "f.yaml")


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(ScenarioError, match="endless"):
        parse_document("\n".join(lines), "f.yaml")


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no such file"):
        read_document(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_document(tmp_path / "b.yaml")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, trees, min_size=1, max_size=4), trees, st.data())
def test_what_is_put_is_found_and_the_rest_is_unchanged(values: dict[str, Any], new: Any, data: st.DataObject) -> None:
    document = Document("f", values)
    others = paths(values)
    keys = data.draw(st.sampled_from(others))
    before = {path: repr(document.get(path)) for path in others}
    put(document, keys, new, "mark")
    assert document.get(keys) == new
    assert document.where(keys).startswith("mark")
    for path in others:
        apart = path[: len(keys)] != keys and keys[: len(path)] != path
        assert not apart or repr(document.get(path)) == before[path]


@settings(max_examples=60, deadline=None)
@given(st.lists(names | st.integers(0, 12), min_size=1, max_size=5).filter(lambda keys: isinstance(keys[0], str)))
def test_a_path_reads_back_as_it_is_written(keys: list[str | int]) -> None:
    assert parse_path(dotted(tuple(keys)), "") == tuple(keys)


@pytest.mark.parametrize("text", ["", "a..b", ".a", "a[", "a[x]", "[0].a", "a b", "a.[0]]", "a[-1]"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match="is no path"):
        parse_path(text, "")


def test_settings_are_yaml_typed_and_make_what_is_missing() -> None:
    document = parse_document(TEXT, "f.yaml")
    apply_settings(document, ["layout.tp=4", "pools[1].gpus=[6, 7]", "pools[2]={name: c}", "new.part=1.5", "off=no"])
    assert document.values["layout"] == {"tp": 4}
    assert document.values["pools"][1]["gpus"] == [6, 7]
    assert document.values["pools"][2] == {"name": "c"}
    assert document.values["new"] == {"part": 1.5}
    assert document.values["off"] == "no"
    assert document.where(("layout", "tp")) == "f.yaml (--set layout.tp=4): layout.tp"


@pytest.mark.parametrize(
    "setting", ["layout", "=3", "layout.tp.x=3", "pools.name=3", "pools[5].name=3", "layout[0]=3", "layout.tp=["]
)
def test_settings_that_lead_nowhere_are_refused(setting: str) -> None:
    with pytest.raises(ScenarioError, match="--set"):
        apply_settings(parse_document(TEXT, "f.yaml"), [setting])


def test_single_values() -> None:
    assert [parse_value(text, "") for text in ("4", "true", "1e-3", "[0, 1]", "", "'4'")] == [
        4, True, 1e-3, [0, 1], None, "4",
    ]  # fmt: skip
