"""Live traffic: rate curves, client mixtures, result files, conversations with retrieval and tools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import NotBuiltError, WorkloadError
from simulator.workload import (
    ClosedLoop,
    Conversation,
    Law,
    Requests,
    Retrieval,
    Tools,
    Wait,
    conversations,
    curve_arrivals,
    day_curve,
    read_burstgpt_csv,
    read_lengths_csv,
    read_servegen,
    read_vllm_result,
    stream,
)
from simulator.workload.curve import expected_count

TRACES = Path(__file__).parents[1].parent / "shared" / "data" / "traces"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def write(folder: Path, text: str, name: str = "trace") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# ---- rate curves ----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(0.5, 900.0), st.floats(0.0, 40.0)), min_size=2, max_size=6),
    st.integers(0, 2**20),
)
@settings(max_examples=40, deadline=None)
def test_arrivals_mapped_onto_expected_counts_are_a_plain_poisson_process(
    steps: list[tuple[float, float]], seed: int
) -> None:
    times = np.concatenate(([0.0], np.cumsum([gap for gap, _ in steps[1:]])))
    points = [(float(t), rate) for t, (_, rate) in zip(times, steps, strict=True)]
    if not any(rate for _, rate in points):
        return
    total = float(expected_count(points, times[-1:])[0])
    came = curve_arrivals(stream(seed, "arrivals"), points)
    assert np.all(np.diff(came) >= 0.0)
    assert not len(came) or 0.0 <= came[0] <= came[-1] <= times[-1] * (1 + 1e-9)
    assert abs(len(came) - total) <= 6.0 * total**0.5 + 6.0
    # Uniform on the axis of expected counts: Kolmogorov-Smirnov at 1e-6.
    placed = np.sort(expected_count(points, came)) / total if total else came
    if len(placed):
        ideal = (np.arange(len(placed)) + 0.5) / len(placed)
        assert np.abs(placed - ideal).max() < 2.7 / len(placed) ** 0.5 + 0.5 / len(placed)


def test_a_curve_goes_on_at_its_last_rate() -> None:
    came = curve_arrivals(stream(3, "arrivals"), [(0.0, 2.0), (10.0, 8.0)], 4000)
    assert len(came) == 4000
    assert came[-1] - 10.0 == pytest.approx((4000 - 50) / 8.0, rel=0.05)


def test_a_day_has_its_peak_and_its_night() -> None:
    points = day_curve(3.0, 11.0, 15.0)
    rates = dict(points)
    assert rates[15 * 3600.0] == pytest.approx(11.0)
    assert rates[3 * 3600.0] == pytest.approx(3.0)
    assert float(expected_count(points, np.array([86400.0]))[0]) == pytest.approx(7.0 * 86400.0, rel=1e-3)


@pytest.mark.parametrize(
    ("points", "count", "said"),
    [
        ([(0.0, 1.0)], None, "at least two"),
        ([(0.0, 1.0), (0.0, 2.0)], None, "point 1: 0 s: times ascend"),
        ([(1.0, 1.0), (2.0, 2.0)], None, "point 0: 1 s: times ascend"),
        ([(0.0, 1.0), (2.0, -2.0)], None, "point 1: -2: a rate is"),
        ([(0.0, 0.0), (2.0, 0.0)], None, "0 everywhere"),
        ([(0.0, 9.0), (2.0, 0.0)], 500, "about 9 come before its rate ends at 0"),
    ],
)
def test_a_wrong_curve_is_told(points: list[tuple[float, float]], count: int | None, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        curve_arrivals(stream(0, "arrivals"), points, count)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_burstgpt_leaves_failures_out(tmp_path: Path) -> None:
    text = BURST + "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,100,0,100,API log\n118.5,GPT-4,1087,230,1317,API\n"
    read = read_burstgpt_csv(write(tmp_path, text))
    assert read.arrival_s.tolist() == [0.0, 113.5]
    assert (read.input_tokens.tolist(), read.output_tokens.tolist()) == ([472, 1087], [18, 230])
    assert len(read_burstgpt_csv(write(tmp_path, text), model="ChatGPT")) == 1
    # The third part of the data set has two columns more, in between.
    other = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    assert len(read_burstgpt_csv(write(tmp_path, other + "5,a,1.0,ChatGPT,4,2,6,Conversation log\n"))) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("5,ChatGPT,-4,2,-2,x\n", "line 3: Request tokens: '-4': must be a whole number of at least 0"),
        ("5,ChatGPT,4,2,7,x\n", r"line 3: 4 \+ 2: Total tokens is 7"),
        ("-5,ChatGPT,4,2,6,x\n", "line 3: Timestamp: '-5'"),
        ("nan,ChatGPT,4,2,6,x\n", "line 3: Timestamp: 'nan'"),
        ("2,ChatGPT,4,2,6,x\n", "line 3: -1 s after 0 s: times must not go back"),
        ("5,ChatGPT,4000,2000,6000,x\n", r"line 3: 4000 \+ 2000 tokens: the model's context holds 4096"),
        ("5,ChatGPT\n", "line 3: 2 cells: the header has 6"),
    ],
)
def test_a_wrong_line_of_burstgpt_is_named(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        read_burstgpt_csv(write(tmp_path, BURST + "3,ChatGPT,4,2,6,x\n" + row), longest=4096)


def test_lengths_of_sharegpt(tmp_path: Path) -> None:
    path = write(
        tmp_path, "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n30,5,35,6\n4000,500,4500,8\n"
    )
    given, asked = read_lengths_csv(path)
    assert (given.tolist(), asked.tolist()) == ([30, 4000], [5, 500])
    assert read_lengths_csv(path, longest=4096, drop=True)[0].tolist() == [30]
    with pytest.raises(WorkloadError, match=r"line 3: 4000 \+ 500 tokens"):
        read_lengths_csv(path, longest=4096)


def result_file(folder: Path, **fields: Any) -> Path:
    return write(folder, json.dumps({"input_lens": [9, 7, 5], "output_lens": [4, 0, 6], **fields}), "result.json")


def test_vllm_results_are_replayed_as_they_were_sent(tmp_path: Path) -> None:
    read = read_vllm_result(result_file(tmp_path, request_rate=0.5, burstiness=2.0))
    assert isinstance(read, Requests)
    assert read.input_tokens.tolist() == [9, 5]  # the second failed
    assert read.arrival_s[-1] == pytest.approx(2 / 0.5)
    closed = read_vllm_result(result_file(tmp_path, request_rate="inf", max_concurrency=2))
    assert isinstance(closed, ClosedLoop)
    assert closed.concurrency == 2
    started = read_vllm_result(result_file(tmp_path, start_times=[7.5, 3.0, 6.0], max_concurrency=2))
    assert isinstance(started, Requests)
    assert (started.arrival_s.tolist(), started.input_tokens.tolist()) == ([0.0, 1.5], [5, 9])
    every = read_vllm_result(result_file(tmp_path))
    assert isinstance(every, Requests)
    assert every.arrival_s.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"input_lens": [1, 2]}, "output_lens: 3 entries: input_lens has 2"),
        ({"input_lens": [1, -2, 3]}, r"input_lens\[1\]: -2: must be a whole number"),
        ({"output_lens": None}, "output_lens: NoneType: must be a list"),
        ({"output_lens": [0, 0, 0]}, "no request that was answered"),
        ({"request_rate": -3}, "request_rate: -3"),
        ({"request_rate": 2.0, "burstiness": "x"}, "burstiness: 'x'"),
        ({"start_times": [1.0]}, "start_times"),
    ],
)
def test_a_wrong_vllm_result_is_told(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        read_vllm_result(result_file(tmp_path, **fields))


def test_a_rate_under_a_limit_is_refused_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(NotBuiltError, match="a rate under a limit"):
        read_vllm_result(result_file(tmp_path, request_rate=3.0, max_concurrency=2))
    with pytest.raises(WorkloadError, match="is no JSON"):
        read_vllm_result(write(tmp_path, "{", "result.json"))


def clients(folder: Path, *traces: str) -> Path:
    data = {"0": {"input_tokens": "{30: 0.25, 50: 0.75}", "output_tokens": "{7: 1.0}"}}
    write(folder, json.dumps(data), "chunk-0-dataset.json")
    for number, trace in enumerate(traces):
        write(folder, trace, f"chunk-{number}-trace.csv")
    return folder


def test_servegen_clients_keep_their_rates_and_lengths(tmp_path: Path) -> None:
    folder = clients(
        tmp_path, "0,4,1.5,Gamma,0.4444,0.5625\n600,0,0,,0,0\n1200,8,0.9,Weibull,1.1,0.13\n", "0,3,1,Gamma,1,0.3\n"
    )
    read = read_servegen(folder, duration_s=1800.0, seed=5)
    assert read.session is not None
    first = read.arrival_s[read.session == 0]
    for low, high, rate in ((0, 600, 4.0), (600, 1200, 0.0), (1200, 1800, 8.0)):
        count = int(((first >= low) & (first < high)).sum())
        assert count == pytest.approx(rate * 600.0, rel=0.12)
    assert int((read.session == 1).sum()) == pytest.approx(5400, rel=0.08)
    assert set(read.input_tokens.tolist()) == {30, 50}
    assert float((read.input_tokens == 50).mean()) == pytest.approx(0.75, abs=0.03)
    again = read_servegen(folder, duration_s=1800.0, seed=5)
    assert np.array_equal(read.arrival_s, again.arrival_s)
    double = read_servegen(folder, duration_s=1800.0, scale=2.0, seed=5)
    assert len(double) == pytest.approx(2 * len(read), rel=0.08)


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ("0,1,1,Gamma,1\n", "chunk-0-trace.csv: line 1: 5 cells"),
        ("0,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n", "line 2: 0 s: windows must ascend"),
        ("0,1,1,Pareto,1,1\n", "line 1: Pareto,1"),
        ("0,-1,1,Gamma,1,1\n", "line 1: rate: '-1'"),
        ("0,0,0,,0,0\n", "is silent"),
    ],
)
def test_a_wrong_client_is_named(tmp_path: Path, trace: str, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        read_servegen(clients(tmp_path, trace))


@pytest.mark.skipif(not TRACES.exists(), reason="the recorded traces are not here")
def test_recorded_clients_come_at_the_recorded_rate() -> None:
    read = read_servegen(TRACES / "servegen" / "deepseek-r1", start_s=6 * 3600.0, duration_s=3600.0, seed=1)
    rows = np.loadtxt(TRACES / "servegen" / "deepseek-r1_total_rate.csv", delimiter=",", skiprows=1)
    rate = rows[(rows[:, 0] >= 6 * 3600) & (rows[:, 0] < 7 * 3600), 1].mean()
    assert len(read) == pytest.approx(rate * 3600.0, rel=0.05)
    given, asked = read_lengths_csv(TRACES / "sharegpt_val_10k_llama2_lengths.csv")
    assert len(given) == 10_000
    assert (round(given.mean()), round(asked.mean())) == (246, 326)


# ---- conversations --------------------------------------------------------------------------------------------------

TALK = Conversation(
    5, Law(60, spread=0.5), Law(200, cv=0.7, most=900), Wait(20.0, 1.0), 300, 2,
    Retrieval(Wait(0.4, 0.5), 40, 3, 150), Tools(3, Wait(1.5, 1.0), Law(25), Law(400, cv=1.0, most=2000)),
)  # fmt: skip


def test_a_conversation_grows_by_what_was_said() -> None:
    made = conversations(TALK, np.arange(60.0), seed=4)
    assert made.after is not None
    assert made.delay_s is not None
    assert made.before_s is not None
    assert made.session is not None
    follows = np.flatnonzero(made.after >= 0)
    before = made.after[follows]
    assert np.array_equal(made.session[follows], made.session[before])
    grown = made.input_tokens[follows] - made.input_tokens[before] - made.output_tokens[before]
    turn = made.before_s[follows] > 0.0  # retrieval comes before the user's words, not after a tool
    assert np.all(grown >= np.where(turn, 3 * 150 + 30, 1))
    assert np.all(grown[turn] <= 3 * 150 + 90)
    assert np.all(made.arrival_s[follows] >= made.arrival_s[before] + made.delay_s[follows] - 1e-9)
    assert np.all(made.delay_s[follows] >= made.before_s[follows])
    assert np.all(made.delay_s[made.after < 0] == 0.0)
    assert len(set(made.after[follows].tolist())) == len(follows)


def test_blocks_are_shared_exactly_where_tokens_are() -> None:
    made = conversations(TALK, np.arange(80.0), seed=4)
    assert made.session is not None
    assert made.after is not None
    longest = 0
    for i, hashes in enumerate(made.prefixes):
        assert len(hashes) == made.input_tokens[i] // TALK.block_tokens
        assert len(set(hashes)) == len(hashes)
        if made.after[i] >= 0:  # a turn keeps all whole blocks of the turn before
            earlier = made.prefixes[made.after[i]]
            assert hashes[: len(earlier)] == earlier
    for i, first in enumerate(made.prefixes):
        for j in range(i):
            same = len(set(first) & set(made.prefixes[j]))
            assert first[:same] == made.prefixes[j][:same]
            if made.session[i] != made.session[j]:  # at most the system prompt and the documents
                assert same <= (300 + 3 * 150) // TALK.block_tokens
                longest = max(longest, same)
    assert longest > 300 // TALK.block_tokens  # popular documents are read after the same system prompt


def test_without_kept_kv_only_what_others_say_too_is_found_again() -> None:
    made = conversations(Conversation(4, Law(100), Law(300), system_tokens=640, keep_kv=False), np.arange(9.0))
    assert {len(hashes) for hashes in made.prefixes} == {10}


def test_a_conversation_ends_with_its_context() -> None:
    law = Conversation(50, Law(100), Law(100), longest=1000)
    made = conversations(law, np.arange(30.0), seed=2)
    assert int((made.input_tokens + made.output_tokens).max()) == 1000
    with pytest.raises(WorkloadError, match="in the first request"):
        conversations(Conversation(2, Law(100), Law(100), longest=150), np.zeros(1))


def test_a_front_end_is_passed_in_order_and_waited_for() -> None:
    plain = Requests(np.array([0.0, 1.0, 1.1, 5.0]), np.array([9, 900, 5, 7]), np.full(4, 3))
    behind = plain.behind(0.001 * plain.input_tokens.astype(np.float64))
    assert behind.before_s is not None
    np.testing.assert_allclose(behind.arrival_s, [0.009, 1.9, 1.9, 5.007])
    np.testing.assert_allclose(behind.arrival_s - behind.before_s, plain.arrival_s)
    made = conversations(TALK, np.arange(9.0), seed=4)
    later = made.behind(np.full(len(made), 0.25))
    assert made.after is not None
    assert made.delay_s is not None
    assert made.before_s is not None
    assert later.delay_s is not None
    assert later.before_s is not None
    np.testing.assert_allclose(later.before_s - made.before_s, 0.25)
    np.testing.assert_allclose(later.delay_s - made.delay_s, np.where(made.after >= 0, 0.25, 0.0))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"after": [-1, 1, 0]}, "after, delay_s: one of the two"),
        ({"after": [-1, 1, 0], "delay_s": [0, 0, 0]}, "request 1: after: 1: must be an earlier request"),
        ({"after": [-1, 0, 1], "delay_s": [0, -2, 0]}, "request 1: delay: -2.0 s"),
        ({"session": [1]}, "session: 1 entries"),
    ],
)
def test_wrong_followups_are_named(columns: dict[str, list[int]], said: str) -> None:
    arrays = {
        name: np.array(values, dtype=np.float64 if name == "delay_s" else np.int64) for name, values in columns.items()
    }
    with pytest.raises(WorkloadError, match=said):
        Requests(np.arange(3.0), np.full(3, 9), np.full(3, 4), **arrays)  # type: ignore[arg-type]
