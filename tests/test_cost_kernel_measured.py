"""The measured provider: asked first, inside its tables only, never believing what a datasheet forbids."""

import json
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost import kernel
from simulator.cost.kernel import index
from simulator.cost.kernel.device_profile import profile_text, read_profile
from simulator.cost.kernel.measured import Tables, make_table
from simulator.cost.kernel.user_table import UserTable, read_user_table
from simulator.errors import CalibrationError, DataError
from simulator.hardware.catalogue import find_device

H100 = "H100-SXM"


@pytest.fixture(autouse=True)
def _forgetting() -> Iterator[None]:
    yield
    kernel.forget_measured()


def rows(slow: float = 1.3) -> pd.DataFrame:
    """vLLM GEMMs and decode attention `slow` times what the fitted model says, slower still with m."""
    device = find_device(H100)
    found = []
    for m in (16, 32, 64, 128):
        for n in (1024, 2048, 4096):
            for k in (512, 1024, 2048):
                model = kernel.gemm(device, m, n, k, "bf16", "vllm").time_s
                row = {"op": "gemm", "m": m, "n": n, "k": k, "time_s": model * slow * (m / 16) ** 0.1}
                found.append(row | {"backend": "vllm", "dtype": "bfloat16", "gpu": "H100"})
    for batch in (4, 8):
        for past in (511, 1023, 2047):
            shape = (batch, batch * (past + 1), 32, 8, 128, 128, "bf16", None, "vllm")
            time_s = kernel.attention_decode(device, *shape).time_s
            row = {"op": "generation_attention", "batch_size": batch, "past_kv_len": past}
            row |= {"num_heads": 32, "num_kv_heads": 8}
            row |= {"head_dim": 128, "window_size": 0, "kv_dtype": "bfloat16", "time_s": time_s * slow}
            found.append(row | {"backend": "vllm", "dtype": "bfloat16", "gpu": "H100"})
    return pd.DataFrame(found)


def tables(tmp_path: Path, frame: pd.DataFrame) -> Tables:
    return user_table(tmp_path, frame).tables()


def user_table(tmp_path: Path, frame: pd.DataFrame) -> UserTable:
    path = tmp_path / "measured.csv"
    frame.to_csv(path, index=False)
    return read_user_table(path, "H100")


def test_measured_is_asked_first_and_only_inside(tmp_path: Path) -> None:
    device = find_device(H100)
    fitted = kernel.gemm(device, 48, 3000, 700, "bf16", "vllm")
    exact = kernel.gemm(device, 64, 2048, 1024, "bf16", "vllm")
    kernel.use_measured(tables(tmp_path, rows()))
    inside = kernel.gemm(device, 48, 3000, 700, "bf16", "vllm")
    assert (fitted.provenance, inside.provenance) == ("fitted", "measured")
    assert inside.time_s == pytest.approx(fitted.time_s * 1.3 * 3**0.1, rel=0.05)
    assert kernel.gemm(device, 64, 2048, 1024, "bf16", "vllm").time_s == pytest.approx(exact.time_s * 1.3 * 4**0.1)
    assert kernel.gemm(device, 64, 2048, 1024, "bf16").provenance == "measured", "vLLM stands for no engine"
    decode = kernel.attention_decode(device, 6, 6 * 1500, 32, 8, 128, 128, "bf16", None, "vllm")
    assert decode.provenance == "measured"
    for outside in ((129, 2048, 1024), (64, 8192, 1024), (64, 2048, 100)):
        assert kernel.gemm(device, *outside, "bf16", "vllm").provenance == "fitted"
    assert kernel.gemm(device, 64, 2048, 1024, "fp8", "vllm").provenance == "fitted"
    assert kernel.gemm(find_device("H200-SXM"), 64, 2048, 1024, "bf16", "vllm").provenance == "fitted"
    kernel.forget_measured()
    assert kernel.gemm(device, 48, 3000, 700, "bf16", "vllm") == fitted


def test_rows_faster_than_the_datasheet_are_left_out(tmp_path: Path) -> None:
    frame = rows()
    frame.loc[4, "time_s"] = 1e-9
    found = tables(tmp_path, frame)
    assert found.suspects == 1
    assert len(found.groups["gemm/vllm/bf16"].points) == 35


def test_repeats_and_conflicts_are_named_by_line(tmp_path: Path) -> None:
    frame = rows()
    again = frame.iloc[[3]]
    with pytest.raises(DataError, match=r"lines 5 and 44.*stated twice"):
        tables(tmp_path, pd.concat([frame, again]))
    with pytest.raises(DataError, match=r"lines 5 and 44.*conflict"):
        tables(tmp_path, pd.concat([frame, again.assign(time_s=again["time_s"] * 1.2)]))
    with pytest.raises(DataError, match="stated twice"):
        tables(tmp_path, pd.concat([frame, again.assign(dtype="bf16")]))


def test_repeats_in_a_package_are_merged_by_their_median() -> None:
    table = make_table(np.array([[2.0], [2.0], [2.0], [4.0]]), np.array([3.0, 1.1, 1.0, 5.0]), np.ones(4))
    assert table.ratio((2.0,)) == pytest.approx(1.1)


def test_an_exact_hit_is_the_measured_time_whichever_engine_stands_in(tmp_path: Path) -> None:
    device = find_device(H100)
    frame = rows()
    shape = tuple(int(frame[c][5]) for c in ("m", "n", "k"))
    kernel.use_measured(tables(tmp_path, frame))
    assert kernel.gemm(device, *shape, "bf16").time_s == pytest.approx(frame["time_s"][5])
    assert kernel.gemm(device, *shape, "bf16", "sglang").provenance == "fitted", "another engine's rows do not answer"
    kernel.use_measured(tables(tmp_path, frame.drop(columns="backend")))
    for engine in ("", "vllm", "sglang", "trtllm"):
        assert kernel.gemm(device, *shape, "bf16", engine).time_s == pytest.approx(frame["time_s"][5])


def test_a_table_knows_its_error_where_it_has_enough_rows(tmp_path: Path) -> None:
    found = tables(tmp_path, rows())
    error = found.groups["gemm/vllm/bf16"].error
    assert error is not None
    assert 0.0 < error < 0.1
    assert found.groups["decode/vllm/bf16/128/0"].error is not None
    kernel.use_measured(found)
    assert kernel.gemm(find_device(H100), 48, 3000, 700, "bf16", "vllm").error == error
    few = tables(tmp_path, rows().iloc[:3])
    assert few.groups["gemm/vllm/bf16"].error is None


def test_a_profile_gives_the_same_prices_as_its_table(tmp_path: Path) -> None:
    table = user_table(tmp_path, rows())
    path = tmp_path / "h100.profile.json"
    path.write_text(profile_text(table, "2026-11-23"))
    again = read_profile(path)
    assert again.gpu == H100
    assert "measured.csv" in again.source
    for name, group in table.tables().groups.items():
        assert np.array_equal(again.groups[name].points, group.points)
        assert np.allclose(again.groups[name].log_ratio, group.log_ratio)


def test_wrong_profiles_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(CalibrationError, match="calibrate"):
        read_profile(path)
    for text, said in (("{", "not JSON"), ("[]", "format None"), ('{"format": "shardsim device profile 0"}', "0'")):
        path.write_text(text)
        with pytest.raises(CalibrationError, match=said):
            read_profile(path)
    whole = json.loads(profile_text(user_table(tmp_path, rows()), "2026-11-23"))
    del whole["rows"]["gemm"]["k"]
    path.write_text(json.dumps(whole))
    with pytest.raises(CalibrationError, match="checked rows"):
        read_profile(path)


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_interpolation_stays_between_its_neighbours(seed: int) -> None:
    generator = np.random.default_rng(seed)
    points = 2.0 ** np.array([(a, b) for a in range(5) for b in range(4)])
    measured = generator.uniform(1.0, 3.0, len(points))
    table = make_table(points, measured, np.ones(len(points)))
    at = 2.0 ** generator.uniform((0.0, 0.0), (4.0, 3.0))
    ratio = table.ratio((float(at[0]), float(at[1])))
    assert ratio is not None
    assert measured.min() - 1e-6 <= ratio <= measured.max() + 1e-6
    assert table.ratio((2.0**4.1, 2.0)) is None, "outside nothing is said"
    assert table.ratio((0.0, 2.0)) is None


def test_a_gap_wider_than_an_octave_is_not_bridged() -> None:
    table = make_table(np.array([[1.0], [2.0], [64.0], [128.0]]), np.full(4, 2.0), np.ones(4))
    assert table.ratio((12.0,)) is None
    assert table.ratio((90.0,)) == pytest.approx(2.0)


def test_a_cache_is_read_back_and_a_corrupt_one_is_not(tmp_path: Path) -> None:
    found = tables(tmp_path, rows())
    kept = tmp_path / "folder" / "kept.npz"
    index.write_cache(found, kept)
    again = index.read_cache(kept, found.gpu, found.source)
    assert again is not None
    assert list(again.groups) == list(found.groups)
    for name, table in found.groups.items():
        assert np.array_equal(again.groups[name].points, table.points)
        assert np.array_equal(again.groups[name].log_ratio, table.log_ratio)
    assert index.read_cache(kept, found.gpu, "aiconfigurator-core==9.9.9") is None
    kept.write_bytes(kept.read_bytes()[:200])
    assert index.read_cache(kept, found.gpu, found.source) is None
    assert index.read_cache(tmp_path / "none.npz", found.gpu, found.source) is None


def without(column: str) -> pd.DataFrame:
    return rows().drop(columns=column)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (without("time_s"), "no time_s"),
        (without("time_s").assign(time_ms=1.0), "is it time_ms"),
        (rows().assign(time_s=lambda f: f["time_s"] * 1e6), "1e6"),
        (rows().assign(time_s=lambda f: f["time_s"] * 1e3), "1e3"),
        (rows().assign(time_s=lambda f: f["time_s"] * 1e-3), "beat the GPU"),
        (without("past_kv_len"), "past_kv_len"),
        (rows().assign(n=lambda f: f["n"] - 1024), "n: line 2: 0"),
        (rows().assign(k=lambda f: f["k"].astype(object).where(f.index != 2, "many")), "k: line 4: many"),
        (rows().assign(gpu="A100"), "no rows"),
        (rows().assign(dtype="bf17"), "dtype: line 2: bf17"),
        (rows().assign(kv_dtype="int3"), "kv_dtype: line 2: int3"),
        (rows().assign(op="gem"), "op: gem"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(DataError, match=said):
        tables(tmp_path, frame)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_user_table(tmp_path / "none.csv", "H100")
    with pytest.raises(DataError, match="xlsx"):
        read_user_table(tmp_path / "t.xlsx", "H100")
    for name, content in (("a.csv", b""), ("b.csv", b"\xff\xfe\x00"), ("c.parquet", b"no parquet")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="readable CSV or Parquet"):
            read_user_table(tmp_path / name, "H100")


def test_parquet_reads_as_csv(tmp_path: Path) -> None:
    rows().to_parquet(tmp_path / "t.parquet")
    found = read_user_table(tmp_path / "t.parquet", "H100").tables().groups
    assert list(found) == list(tables(tmp_path, rows()).groups)


def test_another_version_of_the_extra_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec("aiconfigurator_core", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(index, "find_spec", lambda _: spec)
    monkeypatch.setattr(index, "version", lambda _: "0.13.0")
    with pytest.raises(CalibrationError, match=r"0\.13\.0.*0\.12\.0"):
        index.package_tables("H100", cache=tmp_path)


def test_a_corrupt_cache_is_rebuilt_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of one small table, as the extra lays its files out."""
    folder = tmp_path / "core" / "systems" / "data" / "h100_sxm" / "gemm" / "vllm" / "0.19.0"
    folder.mkdir(parents=True)
    frame = rows()[lambda f: f["op"] == "gemm"].assign(latency=lambda f: f["time_s"] * 1e3)
    columns = ["dtype", "m", "n", "k", "latency"]
    frame[columns].rename(columns={"dtype": "gemm_dtype"}).to_parquet(folder / "gemm_perf.parquet")
    monkeypatch.setattr(index, "_package", lambda: (tmp_path / "core", index.RELEASE))
    told: list[tuple[str, float]] = []
    first = index.package_tables("H100", lambda what, part: told.append((what, part)), tmp_path)
    assert told == [("indexing gemm/vllm/0.19.0/gemm_perf.parquet", 0.0)]
    assert first.source == "aiconfigurator-core==0.12.0"
    (kept,) = tmp_path.glob("*.npz")
    index.package_tables("H100", lambda what, part: told.append((what, part)), tmp_path)
    assert len(told) == 1, "the second time the cache answers"
    kept.write_bytes(b"PK" + kept.read_bytes()[2:300])
    again = index.package_tables("H100", lambda what, part: told.append((what, part)), tmp_path)
    assert len(told) == 2
    assert np.array_equal(again.groups["gemm/vllm/bf16"].log_ratio, first.groups["gemm/vllm/bf16"].log_ratio)


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "find_spec", lambda _: None)
    with pytest.raises(CalibrationError, match="silicon"):
        index.package_tables("H100")


def test_planted_ratios_upside_down_are_seen(tmp_path: Path) -> None:
    """Planted bug: model over measured instead of measured over model; the exact hit must give it away."""
    device = find_device(H100)
    frame = rows(slow=2.0)
    truth = float(frame["time_s"][5])
    shape = tuple(int(frame[c][5]) for c in ("m", "n", "k"))
    found = tables(tmp_path, frame)
    flipped = {n: type(t)(t.points, -t.log_ratio) for n, t in found.groups.items()}
    kernel.use_measured(type(found)(found.gpu, found.source, flipped))
    assert kernel.gemm(device, *shape, "bf16", "vllm").time_s != pytest.approx(truth, rel=0.2)
    kernel.use_measured(found)
    assert kernel.gemm(device, *shape, "bf16", "vllm").time_s == pytest.approx(truth, rel=1e-4)
