"""The journal: what was kept comes back equal, whatever the moment at which the process was killed."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planning_tasks
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_tasks import Part, Score, Task, score, tasks

from simulator.errors import OutputError, StalledError
from simulator.planning import journal as journal_module
from simulator.planning.build_id import build_id
from simulator.planning.codec import decode, encode
from simulator.planning.execute import Processes
from simulator.planning.fingerprint import Fingerprints
from simulator.planning.journal import Journal, Resuming

Mark = st.floats(allow_nan=False)
PARTS = st.lists(st.builds(Part, st.text(), st.lists(st.integers(), max_size=3).map(tuple)), max_size=3).map(tuple)
SCORES = st.builds(
    Score, Mark, Mark | st.none(), PARTS, st.tuples(st.integers(), st.text()), st.dictionaries(st.text(), Mark)
)


class Counting:
    """Runs in this process, backwards, and counts; `stop_after` so many it is interrupted."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.ran: list[int] = []
        self.stop_after = stop_after

    def map(self, _function: Callable[[Task], Score], _tasks: Sequence[Task]) -> Iterator[Score]:
        raise AssertionError("it can tell as they come")

    def run(self, function: Callable[[Task], Score], given: Sequence[Task]) -> Iterator[tuple[int, Score]]:
        for index in reversed(range(len(given))):
            if len(self.ran) == self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(given[index].number)
            yield index, function(given[index])


def resumed(journal: Journal, run: Any, function: Callable[[Task], Score], given: Sequence[Task]) -> list[Score]:
    return list(Resuming(run, journal).map(function, given))


@given(SCORES)
@settings(deadline=None)
def test_a_value_comes_back_equal(value: Score) -> None:
    assert decode(Score, encode(value)) == value


@pytest.mark.parametrize("wrong", [Part("x", (1,)), {"rate": 1.0}, 3])
def test_another_kind_of_value_is_not_taken(wrong: Any) -> None:
    with pytest.raises(TypeError):
        decode(Score, encode(wrong))


@pytest.mark.parametrize("stops", [(3,), (1, 1, 1), (7, 2), (11, 5, 0)])
@pytest.mark.parametrize("columnar", [True, False])
def test_an_interrupted_sweep_runs_each_task_once(
    tmp_path: Path, stops: tuple[int, ...], columnar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not columnar:
        monkeypatch.setattr(journal_module, "find_spec", lambda _name: None)
    given, ran = tasks(23), list[int]()
    for stop in stops:
        run = Counting(stop)
        with pytest.raises(KeyboardInterrupt), Journal(tmp_path / "j", "sweep", part_rows=4) as journal:
            resumed(journal, run, score, given)
        ran += run.ran
    with Journal(tmp_path / "j", "sweep", part_rows=4) as journal:
        run = Counting()
        assert resumed(journal, run, score, given) == [score(task) for task in given]
        ran += run.ran
        # The one that was interrupted had been computed but not yet handed over.
        assert sorted(ran) == list(range(23))
        assert resumed(journal, Counting(0), score, given) == [score(task) for task in given]


def test_equal_tasks_are_run_once_and_answered_each(tmp_path: Path) -> None:
    given = [*tasks(3), *tasks(3)]
    with Journal(tmp_path / "j", "sweep") as journal:
        run = Counting()
        assert resumed(journal, run, score, given) == [score(task) for task in given]
        assert sorted(run.ran) == [0, 1, 2]


@given(st.integers(0, 2000))
@settings(max_examples=60, deadline=None)
def test_a_torn_tail_loses_one_line_at_most(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder, given_tasks = tmp_path_factory.mktemp("j") / "j", tasks(5)
    with Journal(folder, "sweep") as journal:
        for task in given_tasks:
            journal.add(Fingerprints().of((score, None, task)), "score", score(task))
        text = (folder / "tail.jsonl").read_bytes()
    for part in folder.rglob("part-*"):
        part.unlink()
    (folder / "tail.jsonl").write_bytes(text[:cut])
    with Journal(folder, "sweep") as journal:
        assert len(journal) == text[:cut].count(b"\n")
        assert resumed(journal, Counting(), score, given_tasks) == [score(task) for task in given_tasks]


def test_killed_between_part_and_tail_nothing_is_twice(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    with Journal(folder, "sweep") as journal:
        resumed(journal, Counting(), score, tasks(6))
        tail = (folder / "tail.jsonl").read_bytes()
    assert (folder / "tail.jsonl").read_bytes() == b"", "closing moved it into a part"
    (folder / "tail.jsonl").write_bytes(tail)
    with Journal(folder, "sweep") as journal:
        assert resumed(journal, Counting(0), score, tasks(6)) == [score(task) for task in tasks(6)]
    assert len(pd.read_parquet(folder / "results" / "score")) == 6


def shifted(task: Task, by: int) -> Score:
    return score(Task(task.number + by))


def test_bound_arguments_are_part_of_the_task(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "sweep") as journal, Processes(2) as two:
        for by in (0, 5, 0):
            found = list(Resuming(two, journal).map(partial(shifted, by=by), tasks(4)))
            assert found == [score(Task(n + by)) for n in range(4)]
        assert len(journal) == 8


def test_parts_are_one_table_for_people(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "sweep", part_rows=5) as journal:
        resumed(journal, Counting(), score, tasks(12))
    frame = pd.read_parquet(tmp_path / "j" / "results" / "score")
    assert sorted(frame[".rate"]) == sorted(score(task).rate for task in tasks(12))
    assert frame[".pieces.b"].tolist() == [1 / 7] * 12
    assert len(list((tmp_path / "j" / "results" / "score").iterdir())) == 3


def test_another_plans_folder_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "one sweep") as journal:
        resumed(journal, Counting(), score, tasks(2))
        with pytest.raises(OutputError, match="in use"), Journal(tmp_path / "j", "one sweep"):
            pass
    with pytest.raises(OutputError, match="another plan"), Journal(tmp_path / "j", "another sweep"):
        pass
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    with pytest.raises(OutputError, match="no journal"), Journal(tmp_path / "photos", "one sweep"):
        pass
    (tmp_path / "j" / "journal.json").write_text("{")
    with pytest.raises(OutputError, match="is no journal"), Journal(tmp_path / "j", "one sweep"):
        pass


SWEEP = """
import sys
from pathlib import Path
from planning_tasks import score, tasks
from simulator.planning.execute import InProcess
from simulator.planning.fingerprint import Fingerprints
from simulator.planning.journal import Journal, Resuming
with Journal(Path(sys.argv[1]), "sweep", part_rows=7) as journal:
    list(Resuming(InProcess(), journal).map(score, tasks(60, 0.01)))
print("done")
"""


@pytest.mark.parametrize("lines", [1, 20])
def test_kill_9_of_the_whole_run(tmp_path: Path, lines: int) -> None:
    folder = tmp_path / "j"
    path = os.pathsep.join([str(Path(planning_tasks.__file__).parent), str(Path(__file__).parents[1])])
    command = [sys.executable, "-c", SWEEP, str(folder)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        parts = len(list(folder.glob("results/score/part-*")))
        tail = (folder / "tail.jsonl").read_bytes().count(b"\n") if (folder / "tail.jsonl").exists() else 0
        if 7 * parts + tail >= lines:
            break
        time.sleep(0.005)
    assert process.poll() is None, "it must be killed in the middle"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Journal(folder, "sweep", part_rows=7) as journal:
        kept = len(journal)
        assert lines <= kept < 60
        run = Counting()
        assert resumed(journal, run, score, tasks(60, 0.01)) == [score(task) for task in tasks(60)]
        assert len(run.ran) == 60 - kept


def test_kill_9_of_a_worker_process_loses_nothing() -> None:
    with Processes(2) as two:
        found = {}
        for number, result in two.run(score, tasks(40, 0.02)):
            found[number] = result
            if len(found) in (5, 12):
                os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
        assert [found[i] for i in range(40)] == [score(task) for task in tasks(40)]
        assert list(two.map(score, tasks(9))) == [score(task) for task in tasks(9)]


def test_a_task_that_kills_its_workers_is_an_error_and_no_loop() -> None:
    with Processes(1) as one, pytest.raises(StalledError, match="none done between"):
        list(one.run(planning_tasks.die, tasks(2)))


@given(SCORES, SCORES)
@settings(deadline=None)
def test_fingerprints_are_of_the_content(one: Score, other: Score) -> None:
    copied = pickle.loads(pickle.dumps(one))
    assert Fingerprints().of(copied) == Fingerprints().of(one)
    assert (Fingerprints().of(other) == Fingerprints().of(one)) == (encode(other) == encode(one))
    prints = Fingerprints()
    assert prints.of((one, other)) == Fingerprints().of((one, other)) == prints.of((copied, other))


def test_fingerprints_tell_arrays_and_types_apart() -> None:
    array = np.arange(6.0)
    values = [array, array.reshape(2, 3), array.astype(int), array + 1, 1, 1.0, "1", True, (1,), ((1,),), {1: 2},
              {2: 1}, score, planning_tasks.fail, None]  # fmt: skip
    assert len({Fingerprints().of(value) for value in values}) == len(values)
    with pytest.raises(TypeError):
        Fingerprints().of(object())


def test_the_build_is_of_the_code_and_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHARDSIM_BUILD_ID")
    package = tmp_path / "simulator"
    (package / "data").mkdir(parents=True)
    seen = set()
    for name, text in (("__init__.py", "a"), ("data/x.toml", "b"), ("data/x.toml", "c"), ("data/y.toml", "c")):
        (package / name).write_text(text)
        monkeypatch.setattr("simulator.__file__", str(package / "__init__.py"))
        seen.add(build_id.__wrapped__())
    (package / "notes.txt").write_text("no code")
    assert build_id.__wrapped__() in seen
    assert len(seen) == 4
