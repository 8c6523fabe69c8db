"""The table of candidates: its data, which the page's script filters and sorts, and the controls above it."""

import base64
import gzip
import json
from typing import Any

from simulator.planning.result import Evaluation, PlanResult
from simulator.report.page.html import tag, text
from simulator.report.plan.words import AXES, BINDING, ENGINE, STATUS, candidate_text, figure, gpu_text

COLUMNS = (
    ("candidate", ""), ("status", ""), ("GPUs", "gpus"), ("holds, req/s", "load_requests_per_s"),
    ("TTFT, ms", "ttft_s"), ("TPOT, ms", "tpot_s"),
    ("tok/s a GPU", "output_tokens_per_s_per_gpu"),
    ("$/M tokens", "usd_per_million_tokens"), ("reason", ""),
)  # fmt: skip
"""Heading, and the score's field it shows."""
FILTERS = ("status", "gpu", "engine", "precision", "pools", "binds")
"""Drop-down lists; each row's values stand in its `keys`, in this order."""


def _row(evaluation: Evaluation, winner: str) -> dict[str, Any]:
    candidate, score = evaluation.candidate, evaluation.score
    pools = candidate.pools
    cells: list[Any] = [candidate_text(candidate), STATUS[evaluation.status]]
    for _, field in COLUMNS[2:8]:
        value = figure(score, field) if score is not None else None
        cells.append(None if value is None else float(f"{value * AXES[field].factor:.4g}"))
    keys = (
        STATUS[evaluation.status],
        " + ".join(dict.fromkeys(gpu_text(pool.gpu) for pool in pools)),
        " + ".join(dict.fromkeys(ENGINE.get(pool.engine, pool.engine) for pool in pools)),
        " + ".join(dict.fromkeys(f"{pool.precision}, {pool.kv_cache} KV" for pool in pools)),
        "apart" if candidate.separated else "one",
        BINDING[evaluation.binding],
    )
    cells.append(evaluation.reason)
    return {"cells": cells, "keys": keys, "holds": evaluation.holds, "best": candidate.id == winner, "id": candidate.id}


def candidates_data(result: PlanResult) -> str:
    """The script element that holds all rows, packed."""
    winner = result.winner.candidate.id if result.winner is not None else ""
    rows = [_row(each, winner) for each in result.evaluations]
    content = json.dumps({"filters": FILTERS, "rows": rows}, separators=(",", ":"), allow_nan=False)
    packed = base64.b64encode(gzip.compress(content.encode(), 9, mtime=0)).decode()
    return f'<script type="application/octet-stream" id="candidates">{packed}</script>\n'


def candidates_table() -> str:
    """Controls and an empty table; the script fills both."""
    search = '<input type="search" id="find" placeholder="words, e.g. tp8 H200" aria-label="words to look for">'
    lists = "".join(
        f'<label>{text(name)} <select data-filter="{i}"><option value="">all</option></select></label>'
        for i, name in enumerate(FILTERS)
    )
    holds = '<label><input type="checkbox" id="holds"> only those that hold</label>'
    head = "".join(
        f'<th{" class=n" if field else ""} aria-sort="none">'
        f'<button type="button" data-sort="{i}">{text(name)}</button></th>'
        for i, (name, field) in enumerate(COLUMNS)
    )
    body = f'<div class="scroll tall"><table id="rows"><thead><tr>{head}</tr></thead><tbody></tbody></table></div>'
    said = tag("p", "", class_="note", id="shown", aria_live="polite")
    return f'<div class="filters">{search}{lists}{holds}</div>{said}{body}'
