"""The measured provider: asked first, inside its tables only, never believing what a datasheet forbids."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost import kernel
from simulator.cost.kernel import index
from simulator.cost.kernel.measured import make_table
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


def tables(tmp_path: Path, frame: pd.DataFrame) -> index.Tables:
    path = tmp_path / "measured.csv"
    frame.to_csv(path, index=False)
    return index.user_tables(path, "H100")


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


def test_duplicates_are_merged_by_their_median(tmp_path: Path) -> None:
    frame = rows()
    twice = frame.iloc[[0, 0]].assign(time_s=[frame["time_s"][0] * 50, frame["time_s"][0]])
    found = tables(tmp_path, pd.concat([frame, twice]))
    assert found.groups["gemm/vllm/bf16"].ratio((16, 1024, 512)) == pytest.approx(1.3, rel=1e-4)


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


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="time_s"):
        tables(tmp_path, rows().drop(columns="time_s"))
    with pytest.raises(DataError, match="seconds"):
        tables(tmp_path, rows().assign(time_s=lambda f: f["time_s"] * 1e9))
    with pytest.raises(DataError, match="past_kv_len"):
        tables(tmp_path, rows().drop(columns="past_kv_len"))
    with pytest.raises(DataError, match="n: gemm"):
        tables(tmp_path, rows().assign(n=lambda f: f["n"] - 1024))
    with pytest.raises(DataError, match="no rows"):
        tables(tmp_path, rows().assign(gpu="A100"))
    with pytest.raises(DataError, match="no such file"):
        index.user_tables(tmp_path / "none.csv", "H100")
    with pytest.raises(DataError, match="xlsx"):
        index.user_tables(tmp_path / "t.xlsx", "H100")


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
