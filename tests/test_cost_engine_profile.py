"""Engine profiles: found by name and version, whole, and refused where they cannot be."""

from dataclasses import fields
from itertools import pairwise

import pytest

from simulator.cost.engine_profile import EngineProfile, engines, find_engine, profile_from, version_of
from simulator.errors import CalibrationError, DataError

ENTRY = {
    "since": "1.0", "until": "", "kernels": "vllm", "gemm_kernels": "", "all_reduce": "vllm", "host_step_us": 500.0,
    "host_sequence_us": 5.0, "overlaps_host": True, "launch_us": 6.0, "graph_sizes": [1, 2, 4], "graph_step": 8,
    "graph_max": 20, "fused": ["rotate"], "kernel_share": 1.0, "all_reduce_share": 1.0, "max_batched_tokens": 8192,
    "max_sequences": 256, "chunked_prefill": True, "memory_share": 0.9, "memory_of_free": False, "error": 0.1,
}  # fmt: skip


def test_versions_of_an_engine_follow_each_other_without_gap() -> None:
    for name in {profile.name for profile in engines()}:
        mine = [profile for profile in engines() if profile.name == name]
        assert mine[-1].until == ()
        for older, newer in pairwise(mine):
            assert older.until == newer.since


def test_found_by_any_spelling_and_version() -> None:
    assert find_engine("trt", "nvcr.io/nvidia/tensorrt-llm/release:1.1.0rc2").since == (0, 19)
    assert find_engine("TensorRT-LLM", "v0.9.0").until == (0, 10)
    assert find_engine("vllm").until == ()
    assert find_engine("VLLM", "0.6.3").overlaps_host is False
    with pytest.raises(DataError, match="use one of TensorRT-LLM, vLLM, SGLang"):
        find_engine("llama.cpp")
    with pytest.raises(DataError, match=r"the first that is described is 0\.5"):
        find_engine("TensorRT-LLM", "0.2")


@pytest.mark.parametrize(
    ("text", "version"),
    [("v0.19.1rc2", (0, 19, 1)), ("1.0", (1, 0)), ("", ()), ("lmsysorg/sglang:v0.5.6-cu129", (0, 5, 6))],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


def test_graph_sizes_and_cache() -> None:
    profile = profile_from("x", ENTRY)
    assert profile.graph_sizes == (1, 2, 4, 8, 16)
    assert [profile.padded(n) for n in (1, 3, 5, 8, 9, 17)] == [1, 4, 8, 8, 16, None]
    assert profile.cache_bytes(80e9, 20e9, 3e9) == pytest.approx(0.9 * 80e9 - 24e9)
    assert profile.cache_bytes(80e9, 90e9, 0.0) == 0.0
    of_free = profile_from("x", ENTRY | {"memory_of_free": True})
    assert of_free.cache_bytes(80e9, 20e9, 3e9) == pytest.approx(0.9 * 56e9)


@pytest.mark.parametrize(
    "change", [{"host_step_us": -1.0}, {"kernel_share": 0.0}, {"graph_sizes": [4, 2]}, {"fused": ["everything"]}]
)
def test_impossible_profiles_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(CalibrationError, match=r"engines\.toml: x"):
        profile_from("x", ENTRY | change)


def test_a_missing_number_is_named() -> None:
    with pytest.raises(CalibrationError, match="launch_us"):
        profile_from("x", {key: value for key, value in ENTRY.items() if key != "launch_us"})


def test_every_profile_is_whole() -> None:
    for profile in engines():
        assert isinstance(profile, EngineProfile)
        assert all(getattr(profile, field.name) is not None for field in fields(profile))
        assert 0.0 < profile.error < 0.5
        assert profile.label.startswith(profile.name)
