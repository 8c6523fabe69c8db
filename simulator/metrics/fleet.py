"""What a fleet's replicas, masters and faults did over a run, as data frames. Times in seconds."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.engine.fleet import FleetServed
from simulator.engine.fleet_spec import Fleet

Floats = NDArray[np.float64]


def replica_frame(served: FleetServed, fleet: Fleet) -> pd.DataFrame:
    """One row a replica: prompts and answers, share of the run in steps, share of it dead."""
    seconds = _span(served)
    where = np.where(served.back >= 0, served.back, served.front)
    rows = []
    for index, spec in enumerate(fleet.replicas):
        prompts, answers = served.front == index, where == index
        answers = answers if spec.role != "prefill" else answers & (served.output_tokens == 1)
        rows.append(
            (
                spec.name, spec.role, spec.pool, spec.gpus, int(prompts.sum()), int(answers.sum()),
                int(served.input_tokens[prompts].sum()), int(served.output_tokens[answers].sum()),
                float(served.busy_s[index]) / seconds, float(served.down_s[index]) / seconds,
            )
        )  # fmt: skip
    columns = (
        "replica",
        "role",
        "pool",
        "gpus",
        "prompts",
        "answers",
        "prompt_tokens",
        "answer_tokens",
        "busy",
        "down",
    )
    return pd.DataFrame(rows, columns=list(columns))


def master_frame(served: FleetServed, fleet: Fleet) -> pd.DataFrame:
    """One row a master: requests passed on, share of the run that this took, its longest queue, the mean wait of those
    that it passed on last."""
    seconds = _span(served)
    waits = served.dispatched_s - served.arrival_s
    rows = []
    for index, spec in enumerate(fleet.masters):
        mine = served.master == index
        count = int(served.master_dispatched[index])
        wait_s = float(waits[mine].mean()) if mine.any() else float("nan")
        rows.append((spec.name, count, count * spec.dispatch_s / seconds, int(served.master_longest[index]), wait_s))
    return pd.DataFrame(rows, columns=["master", "dispatched", "busy", "longest_queue", "mean_wait_s"])


def outage_frame(served: FleetServed) -> pd.DataFrame:
    """One row a fault: what, when, what was lost, and how long until the lost requests had their next token."""
    rows = [
        (
            outage.kind, outage.target, outage.speed, outage.start_s, outage.end_s, outage.lost_requests,
            outage.lost_tokens, outage.recovered_s - outage.start_s,
        )
        for outage in served.outages
    ]  # fmt: skip
    columns = ("kind", "target", "speed", "start_s", "end_s", "lost_requests", "lost_tokens", "recovery_s")
    return pd.DataFrame(rows, columns=list(columns))


def availability(served: FleetServed, fleet: Fleet) -> float:
    """Share of GPU time in which the GPU's replica was alive, over the run."""
    gpus = np.array([spec.gpus for spec in fleet.replicas], dtype=np.float64)
    return 1.0 - float(served.down_s @ gpus) / (float(gpus.sum()) * _span(served))


def recomputed_share(served: FleetServed) -> float:
    """KV tokens lost to faults over all that the answered requests needed."""
    needed = float((served.input_tokens + served.output_tokens - 1).sum())
    return sum(outage.lost_tokens for outage in served.outages) / needed


def waiting_at(served: FleetServed, times_s: Floats) -> dict[str, NDArray[np.int64]]:
    """Requests at these times: `masters` (not dispatched), `prompts` (dispatched, prompt not computed), `moving`
    (computed, KV not yet at the decode replica), `decoding`. A retried request counts by its last attempt."""
    moved = np.where(np.isnan(served.moved_s), served.prefilled_s, served.moved_s)
    marks = {
        "masters": (served.arrival_s, served.dispatched_s), "prompts": (served.dispatched_s, served.prefilled_s),
        "moving": (served.prefilled_s, moved), "decoding": (moved, served.finish_s),
    }  # fmt: skip
    return {name: _count(begin, times_s) - _count(end, times_s) for name, (begin, end) in marks.items()}


def _count(marks_s: Floats, times_s: Floats) -> NDArray[np.int64]:
    return np.asarray(np.searchsorted(np.sort(marks_s), times_s, side="right"), dtype=np.int64)


def _span(served: FleetServed) -> float:
    return float(served.finish_s.max())
