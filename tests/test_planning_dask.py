"""A Dask cluster of real processes: the same answers, with a worker or the whole run killed in the middle."""

import gc
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import planning_tasks
import pytest
from planning_tasks import Task, fail, score, tasks, where
from typer.testing import CliRunner

from simulator.cli import app
from simulator.errors import ScenarioError
from simulator.planning.execute_dask import DaskRunner
from simulator.planning.journal import Journal, Resuming

T = TypeVar("T")
R = TypeVar("R")
pytest.importorskip("distributed", reason="needs the extra dask")
pytestmark = [pytest.mark.filterwarnings("ignore")]  # of tornado's and Dask's own threads at their end

PATH = os.pathsep.join([str(Path(planning_tasks.__file__).parent), str(Path(__file__).parents[1])])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATH, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}


def process(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def worker(address: str, folder: Path) -> "subprocess.Popen[str]":
    words = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
    started = process("dask_worker", address, *words)
    _drain(started)
    return started


def _drain(started: "subprocess.Popen[str]") -> None:
    assert started.stderr is not None
    threading.Thread(target=started.stderr.read, daemon=True).start()


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, list["subprocess.Popen[str]"]]]:
    scheduler = process("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    started: list[subprocess.Popen[str]] = []
    try:
        assert scheduler.stderr is not None
        address = next(m[0] for line in scheduler.stderr if (m := re.search(r"tcp://[\d.]+:\d+", line)))
        _drain(scheduler)
        started += [worker(address, folder / f"worker{i}") for i in range(workers)]
        yield address, started
    finally:
        for each in (*started, scheduler):
            each.kill()
            each.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ready(runner: DaskRunner, workers: int) -> None:
    wait_for(lambda: len(runner._client.nthreads()) == workers)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster(tmp_path_factory.mktemp("dask"), 2) as (address, _):
        yield address


def ordered(runner: DaskRunner, function: Callable[[Task], object], given: Sequence[Task]) -> list[object]:
    return list(runner.map(function, given))


def test_the_same_results_as_here_from_several_workers(two: str) -> None:
    with DaskRunner(two) as runner:
        ready(runner, 2)
        given = tasks(300)
        assert ordered(runner, score, given) == [score(task) for task in given]
        assert len(set(ordered(runner, where, tasks(20, 0.02)))) == 2


def test_what_a_task_raises_is_raised_here(two: str) -> None:
    with DaskRunner(two) as runner, pytest.raises(ValueError, match="task 0 is bad"):
        list(runner.run(fail, tasks(1)))


def test_no_scheduler_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.planning.execute_dask.CONNECT_S", 0.5)
    with pytest.raises(ScenarioError, match="no Dask scheduler answers") as refused, DaskRunner("tcp://127.0.0.1:9"):
        pass
    assert "\n" not in str(refused.value)
    # One left to be collected later would deadlock the next client's start.
    client = importlib.import_module("distributed").Client
    assert not [c for c in gc.get_objects() if type(c) is client and c._start_arg == "tcp://127.0.0.1:9"]
    with pytest.raises(ScenarioError, match="--scheduler"):
        DaskRunner("")
    with pytest.raises(ScenarioError), DaskRunner("no address"):
        pass


def test_kill_9_of_a_worker_loses_nothing(tmp_path: Path) -> None:
    given = tasks(60, 0.05)
    with cluster(tmp_path, 2) as (address, workers), DaskRunner(address) as runner:
        ready(runner, 2)
        found = {}
        for number, result in runner.run(score, given):
            found[number] = result
            if len(found) == 12:
                workers[0].send_signal(signal.SIGKILL)
        assert [found[i] for i in range(60)] == [score(task) for task in tasks(60)]
        assert list(runner._client.nthreads().values()) == [1]


SWEEP = """
import sys
from pathlib import Path
from planning_tasks import score, tasks
from simulator.planning.execute_dask import DaskRunner
from simulator.planning.journal import Journal, Resuming
with DaskRunner(sys.argv[2]) as runner, Journal(Path(sys.argv[1]), "sweep") as journal:
    list(Resuming(runner, journal).map(score, tasks(80, 0.02)))
"""


def test_kill_9_of_the_run_then_resume_on_the_cluster(two: str, tmp_path: Path) -> None:
    folder = tmp_path / "j"
    run = subprocess.Popen([sys.executable, "-c", SWEEP, str(folder), two], env=ENVIRONMENT)
    tail = folder / "tail.jsonl"
    wait_for(lambda: tail.exists() and tail.read_bytes().count(b"\n") >= 15)
    assert run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.wait()
    asked = list[int]()

    with DaskRunner(two) as runner, Journal(folder, "sweep") as journal:
        kept = len(journal)

        class Counted:
            def map(self, function: Callable[[T], R], given: Sequence[T]) -> Iterator[R]:
                asked.append(len(given))
                return runner.map(function, given)

        found = list(Resuming(Counted(), journal).map(score, tasks(80, 0.02)))
    assert 15 <= kept < 80
    assert asked == [80 - kept]
    assert found == [score(task) for task in tasks(80)]


QUESTION = """
model: Llama-3.1-8B
objective: min_gpus
traffic: {requests_per_s: 9, input_tokens: 900, output_tokens: 120, range_ratio: 0.5}
slo: {ttft: 400 ms, tpot: 30 ms, percentile: 90}
hardware:
  - {topology: dgx_h100, max_gpus: 8}
precisions: [bf16, fp8]
space: {modes: [aggregated], tp: [1, 2], pp: [1]}
confirm: 2
"""


def answer(file: Path, out: Path, *options: str) -> str:
    run = CliRunner().invoke(app, ["plan", str(file), "--out", str(out), "--quiet", *options])
    assert run.exit_code == 0, run.output
    return (out / "plan.json").read_text()


def test_a_plan_is_the_same_with_one_two_and_dask_workers_and_when_resumed(two: str, tmp_path: Path) -> None:
    file, journal = tmp_path / "small.yaml", tmp_path / "journal"
    file.write_text(QUESTION)
    one = answer(file, tmp_path / "one", "--workers", "1")
    assert answer(file, tmp_path / "two", "--workers", "2") == one
    assert answer(file, tmp_path / "dask", "--executor", "dask", "--scheduler", two, "--journal", str(journal)) == one
    parts = sorted(path for path in journal.rglob("part-*.parquet"))
    assert {path.parent.name for path in parts} >= {"assess", "simulate", "timeline"}
    parts[-1].unlink()
    assert answer(file, tmp_path / "again", "--workers", "1", "--journal", str(journal)) == one


def test_kill_9_of_a_plan_then_the_same_command_again(tmp_path: Path) -> None:
    file, journal = tmp_path / "small.yaml", tmp_path / "journal"
    file.write_text(QUESTION)
    words = ["plan", str(file), "--quiet", "--workers", "1", "--journal", str(journal)]
    run = subprocess.Popen([sys.executable, "-m", "simulator", *words, "--out", str(tmp_path / "cut")], env=ENVIRONMENT)
    tail = journal / "tail.jsonl"
    wait_for(lambda: tail.exists() and tail.read_bytes().count(b"\n") >= 2)
    assert run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (tmp_path / "cut").exists()
    resumed = answer(file, tmp_path / "resumed", "--workers", "1", "--journal", str(journal))
    assert resumed == answer(file, tmp_path / "whole", "--workers", "1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--executor", "dask"), "--executor dask needs it"),
        (("--executor", "slurm"), "is none of processes, dask"),
        (("--scheduler", "tcp://here:1"), "goes with --executor dask"),
        (("--executor", "dask", "--scheduler", "tcp://here:1", "--workers", "2"), "is the cluster's to say"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    (tmp_path / "small.yaml").write_text(QUESTION)
    run = CliRunner().invoke(app, ["plan", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out"), *options])
    assert run.exit_code == 2
    assert said in run.stderr
    assert run.stderr.count("\n") == 1
