"""Trace readers: what they read, and that each malformed line is named."""

from pathlib import Path

import pytest

from simulator.errors import WorkloadError
from simulator.workload import read_azure_csv, read_mooncake_jsonl

TRACES = Path(__file__).parents[1].parent / "shared" / "data" / "traces"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
FIRST = "2023-11-16 18:17:03.9799600,4808,10\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "trace"
    path.write_text(text)
    return path


def test_azure(tmp_path: Path) -> None:
    read = read_azure_csv(write(tmp_path, AZURE + FIRST + "2023-11-16 18:17:04.0319569,3180,8\n"))
    assert read.arrival_s.tolist() == [0.0, pytest.approx(0.051996, abs=2e-6)]
    assert (read.input_tokens.tolist(), read.output_tokens.tolist()) == ([4808, 3180], [10, 8])
    assert read.prefixes == ()


def test_mooncake(tmp_path: Path) -> None:
    lines = (
        '{"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [3, 4]}\n\n'
        '{"timestamp": 2500, "input_length": 513, "output_length": 7, "hash_ids": [3, 9]}\n'
    )
    read = read_mooncake_jsonl(write(tmp_path, lines))
    assert read.arrival_s.tolist() == [0.0, 2.5]
    assert read.prefixes == ((3, 4), (3, 9))
    assert read.prefix_tokens == 512


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TIMESTAMP,Context\n", "line 1: TIMESTAMP,Context: needs the columns ContextTokens, GeneratedTokens"),
        (AZURE, "holds no request"),
        (AZURE + FIRST + "yesterday,1,2\n", "line 3: 'yesterday': is no time"),
        (AZURE + FIRST + FIRST.replace("18:17", "18:16"), "line 3: -60 s after 0 s: times must not go back"),
        (AZURE + FIRST + FIRST.replace("4808", "-4"), "line 3: ContextTokens: '-4': must be a whole number"),
        (AZURE + FIRST + FIRST.replace(",10", ",x"), "line 3: GeneratedTokens: 'x'"),
        (AZURE + FIRST + FIRST.replace(",10", ""), "line 3: 2 cells: the header has 3"),
    ],
)
def test_malformed_azure(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        read_azure_csv(write(tmp_path, text))
    assert said in str(caught.value)


GOOD = '{"timestamp": 1000, "input_length": 600, "output_length": 5, "hash_ids": [3, 4]}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no request"),
        (GOOD + "{nope\n", "line 2: {nope: is no JSON"),
        (GOOD + "[1]\n", "line 2: [1]: must be an object"),
        (GOOD + '{"timestamp": 1}\n', "line 2: {\"timestamp\": 1}: has no 'input_length'"),
        (GOOD + GOOD.replace("1000", "10"), "line 2: 0.01 s after 1 s: times must not go back"),
        (GOOD + GOOD.replace("1000", '"soon"'), "line 2: timestamp: 'soon'"),
        (GOOD + GOOD.replace("600", "6000"), "line 2: hash_ids: 2 ids for 6000 tokens: one id for each 512"),
        (GOOD + GOOD.replace("5,", "0,"), "line 2: output_length: 0: must be a whole number"),
        (GOOD.replace("[3, 4]", '"abc"'), "line 1: hash_ids: abc: must be a list"),
    ],
)
def test_malformed_mooncake(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        read_mooncake_jsonl(write(tmp_path, text))
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="nowhere: No such file"):
        read_azure_csv(tmp_path / "nowhere")


@pytest.mark.skipif(not TRACES.is_dir(), reason="the recorded traces lie beside the repository, and are not here")
def test_real_traces_have_their_published_sizes() -> None:
    code = read_azure_csv(TRACES / "azure2023_code.csv")
    assert (len(code), round(code.input_tokens.mean())) == (8819, 2048)
    kimi = read_mooncake_jsonl(TRACES / "mooncake_conversation.jsonl")
    assert (len(kimi), round(kimi.input_tokens.mean()), len(kimi.prefixes)) == (12_031, 12_035, 12_031)
