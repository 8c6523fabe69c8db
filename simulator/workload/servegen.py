"""ServeGen client mixtures: many clients, each with its own rate, burstiness and lengths, as recorded in production.

Source of the model and of the files' format: Xiang et al. 2025, ServeGen (arXiv:2505.09999),
github.com/alibaba/ServeGen, data/*/chunk-*-trace.csv and chunk-*-dataset.json.
"""

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import gamma, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from simulator.errors import WorkloadError
from simulator.workload.reading import opened, seconds
from simulator.workload.requests import Floats, Ints, Requests
from simulator.workload.streams import stream

_TRACE = re.compile(r"chunk-(\d+)-trace\.csv")


@dataclass(frozen=True, slots=True)
class Window:
    """A client's gaps between requests from `start_s` on: of mean 1 / rate, Gamma or Weibull of this shape."""

    start_s: float
    rate_per_s: float
    pattern: str
    shape: float

    def gaps(self, rng: np.random.Generator, count: int) -> Floats:
        """Gaps of mean 1."""
        if self.pattern == "Weibull":
            return np.asarray(rng.weibull(self.shape, count) / gamma(1.0 + 1.0 / self.shape))
        return np.asarray(rng.gamma(self.shape, 1.0 / self.shape, count))


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Lengths and their cumulated shares."""

    tokens: Ints
    shares: Floats

    def draw(self, rng: np.random.Generator, count: int) -> Ints:
        """So many lengths."""
        return self.tokens[np.searchsorted(self.shares, rng.uniform(0.0, self.shares[-1], count), side="right")]


@dataclass(frozen=True, slots=True)
class Client:
    """One client: its windows, and its histograms of prompts and answers by the time they hold from."""

    number: int
    windows: tuple[Window, ...]
    lengths: tuple[tuple[float, Histogram, Histogram], ...]


def read_servegen(
    folder: Path, *, start_s: float = 0.0, duration_s: float = 3600.0, scale: float = 1.0, seed: int = 0,
    longest: int = 0,
) -> Requests:  # fmt: skip
    """Requests of all clients in `folder` from start_s on; `scale` multiplies every rate.

    A client without a data set of its own (large ones are missing from public copies) draws lengths from another's,
    chosen by chance once a client. Lengths beyond what the model's context (`longest` tokens) leaves are cut to it.
    Raises WorkloadError naming file and line, and where nobody sends anything in that time.
    """
    clients = read_clients(folder)
    donors = [client for client in clients if client.lengths]
    if not donors:
        raise WorkloadError(where=str(folder), given="no chunk-*-dataset.json with lengths", rule="at least one")
    times: list[Floats] = []
    given: list[Ints] = []
    asked: list[Ints] = []
    for client in clients:
        rng = stream(seed, f"client {client.number}")
        lengths = (client if client.lengths else donors[int(rng.integers(len(donors)))]).lengths
        came = _arrivals(rng, client.windows, start_s, duration_s, scale)
        prompts, answers = _draw(rng, lengths, came + start_s)
        times.append(came)
        given.append(prompts)
        asked.append(answers)
    every = np.concatenate(times)
    if not len(every):
        raise WorkloadError(where=str(folder), given=f"{start_s:g} s to {start_s + duration_s:g} s", rule="is silent")
    order = np.argsort(every, kind="stable")
    prompts, answers = np.concatenate(given)[order], np.concatenate(asked)[order]
    session = np.concatenate([np.full(len(t), c.number) for t, c in zip(times, clients, strict=True)])[order]
    if longest:
        answers = np.minimum(answers, longest - 1)
        prompts = np.minimum(prompts, longest - answers)
    return Requests(every[order], prompts, answers, session=session.astype(np.int64))


def read_clients(folder: Path) -> tuple[Client, ...]:
    """Every client of a folder, by number. Raises WorkloadError naming file and line."""
    found = {int(match[1]): path for path in folder.glob("chunk-*-trace.csv") if (match := _TRACE.fullmatch(path.name))}
    if not found:
        raise WorkloadError(where=str(folder), given="no chunk-*-trace.csv", rule="is no folder of ServeGen clients")
    clients = []
    for number, path in sorted(found.items()):
        data = folder / f"chunk-{number}-dataset.json"
        clients.append(Client(number, _windows(path), _lengths(data) if data.exists() else ()))
    return tuple(clients)


def _windows(path: Path) -> tuple[Window, ...]:
    windows: list[Window] = []
    with opened(path) as handle:
        for number, line in enumerate(handle, start=1):
            where, cells = f"{path}: line {number}", line.strip().split(",")
            if cells == [""]:
                continue
            if len(cells) != 6:
                raise WorkloadError(where=where, given=f"{len(cells)} cells", rule="six: start, rate, cv, pattern, 2")
            at, rate = seconds(f"{where}: start", cells[0]), seconds(f"{where}: rate", cells[1])
            shape = seconds(f"{where}: shape", cells[4])
            if rate and (cells[3] not in ("Gamma", "Weibull") or shape == 0.0):
                raise WorkloadError(where=where, given=",".join(cells[3:5]), rule="Gamma or Weibull, shape above 0")
            if windows and at <= windows[-1].start_s:
                raise WorkloadError(where=where, given=f"{at:g} s", rule="windows must ascend")
            windows.append(Window(at, rate, cells[3], shape))
    return tuple(windows)


def _lengths(path: Path) -> tuple[tuple[float, Histogram, Histogram], ...]:
    with opened(path) as handle:
        try:
            found: dict[str, Any] = json.load(handle)
            windows = sorted((float(at), entry) for at, entry in found.items())
            pairs = [
                (at, ast.literal_eval(e["input_tokens"]), ast.literal_eval(e["output_tokens"])) for at, e in windows
            ]
        except (ValueError, SyntaxError, KeyError, TypeError, AttributeError) as error:
            raise WorkloadError(where=str(path), given=str(error)[:80], rule="is no ServeGen data set") from error
    return tuple(
        (at, _histogram(path, prompts), _histogram(path, answers)) for at, prompts, answers in pairs
        if prompts and answers
    )  # fmt: skip


def _histogram(path: Path, shares: Any) -> Histogram:
    for tokens, share in shares.items():
        if not isinstance(tokens, int) or tokens < 0 or not isfinite(share) or share < 0.0:
            raise WorkloadError(where=str(path), given=f"{tokens}: {share}", rule="token counts with their shares")
    tokens = np.maximum(np.array(list(shares), dtype=np.int64), 1)
    return Histogram(tokens, np.cumsum(np.array(list(shares.values()), dtype=np.float64)))


def _arrivals(
    rng: np.random.Generator, windows: tuple[Window, ...], start_s: float, duration_s: float, scale: float
) -> Floats:
    """One renewal process in units of expected requests, its clock running at each window's rate."""
    ends = [*(window.start_s for window in windows[1:]), float("inf")]
    found: list[Floats] = []
    owed = -1.0
    for window, end_s in zip(windows, ends, strict=True):
        low, high = max(window.start_s, start_s), min(end_s, start_s + duration_s)
        rate = window.rate_per_s * scale
        if high <= low or rate <= 0.0:
            continue
        span = (high - low) * rate
        if owed < 0.0:  # in the middle of a gap when the clock starts
            owed = float(rng.uniform() * window.gaps(rng, 1)[0])
        at = _until(lambda n, window=window: window.gaps(rng, n), owed, span)  # type: ignore[misc]
        found.append(low - start_s + at[:-1] / rate)
        owed = float(at[-1]) - span
    return np.concatenate(found) if found else np.zeros(0)


def _until(gaps: Callable[[int], Floats], first: float, span: float) -> Floats:
    """Points from `first` on, up to the first at or beyond `span`, which is the last."""
    points = np.array([first])
    while points[-1] < span:
        more = np.cumsum(gaps(int((span - points[-1]) * 1.2) + 8)) + points[-1]
        points = np.concatenate((points, more))
    return points[: int(np.searchsorted(points, span, side="left")) + 1]


def _draw(
    rng: np.random.Generator, lengths: tuple[tuple[float, Histogram, Histogram], ...], at_s: Floats
) -> tuple[Ints, Ints]:
    """Prompts and answers of requests at these times of day, from the histogram that then holds (the first before)."""
    starts = np.array([entry[0] for entry in lengths])
    place = np.clip(np.searchsorted(starts, at_s, side="right") - 1, 0, len(lengths) - 1)
    prompts, answers = np.zeros(len(at_s), dtype=np.int64), np.zeros(len(at_s), dtype=np.int64)
    for index, (_, given, asked) in enumerate(lengths):
        mine = np.flatnonzero(place == index)
        prompts[mine], answers[mine] = given.draw(rng, len(mine)), asked.draw(rng, len(mine))
    return prompts, answers
