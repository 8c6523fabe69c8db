"""Published wide expert parallelism in words, read into numbers: topology, precision, lengths, units."""

import re
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from simulator.errors import DataError
from simulator.validation.links import text

Phase = Literal["prefill", "decode"]
NODE = 8
"""GPUs of a node where the row does not say."""
PREFILL_TOKENS = 16_384
"""Prompt tokens a GPU in one step (SGLang's large-scale EP, lmsys.org, 2025-05-05)."""
CONTEXT = 4_989
"""Tokens of context where the row does not say: average KV length of an output token, DeepSeek's inference system
overview (2025-02-28)."""
REDUNDANT = 32
"""Copies of busy experts that DeepSeek's deployments keep (the same overview)."""


@dataclass(frozen=True, slots=True)
class WideRow:
    """What a row says of one pool. Zero: not stated."""

    phase: Phase
    ep: int
    tp: int
    redundant: int
    """Copies of experts; -1: not stated."""
    node: int
    tokens: int
    """Prefill: prompt tokens a GPU and step; decode: sequences a GPU."""
    context: int
    cached: float
    """Part of the prompt that a cache holds."""
    precision: str
    speculative: bool


def first_number(pattern: str, words: str) -> int:
    """The first group of a pattern as a number; 0 where it is not there."""
    found = re.search(pattern, words, re.IGNORECASE)
    return int(found[1]) if found else 0


def amount(value: Any) -> float:
    """A cell as a number; the first one in it where it is text ("2K-token" is 2,000), 0 where there is none.

    >>> amount("4096"), amount("2K"), amount("avg incl. cache hits"), amount(None)
    (4096.0, 2000.0, 0.0, 0.0)
    """
    found = re.search(r"(\d[\d,]*(?:\.\d+)?)\s*([kK])?", text(value))
    if not found:
        return 0.0
    number = float(found[1].replace(",", "")) * (1000.0 if found[2] else 1.0)
    return number if isfinite(number) else 0.0


def precision_of(words: str) -> str:
    """The storage type of experts that a precision's words name; the model's own where they name none.

    >>> precision_of("FP8 GEMM/dispatch BF16 MLA/combine"), precision_of("NVFP4 MoE, FP8 KV"), precision_of("")
    ('fp8', 'fp4', '')
    """
    lower = words.lower()
    return next((dtype for dtype in ("fp4", "int4", "fp8", "bf16") if dtype in lower), "")


def phase_of(row: Any) -> Phase | None:
    """The phase a row is of, from its own column or what it measures; None for both or neither."""
    words = f"{text(row.phase)} {text(row.metric)}".lower()
    if re.search(r"prefill|input|ttft|first token", words):
        return "prefill"
    return "decode" if re.search(r"decode|output|itl|tpot|speed", words) else None


def pool_gpus(row: Any, phase: Phase) -> int:
    """GPUs of the phase's pool: all of them, its part of "4P12D", or of a pair whose split is not told a third and two
    thirds, as SGLang's 4 and 8 to 9 of 12 nodes are. 0 where no GPUs are counted."""
    words, total = text(row.topology), int(amount(row.gpus))
    split = re.search(r"(\d+)P(\d+)D", words)
    if split:
        return round(total * int(split[1 if phase == "prefill" else 2]) / (int(split[1]) + int(split[2])))
    if re.search(r"\bPD\b|disagg", words):
        return total // 3 if phase == "prefill" else total - total // 3
    return total


def ranks_of(row: Any, phase: Phase) -> int:
    """Expert-parallel ranks of the phase's pool: as written ("prefill EP32", "EP32/EP72"), else all of its GPUs."""
    words = text(row.topology)
    pairs = re.search(r"EP(\d+)\s*/\s*EP(\d+)", words)
    if pairs:
        return int(pairs[1 if phase == "prefill" else 2])
    mine = (rf"{phase}[^,;]*?EP\s?(\d+)", rf"EP\s?(\d+)\s+{phase}", r"EP\s?(\d+)")
    stated = next((found for found in (first_number(pattern, words) for pattern in mine) if found), 0)
    return stated or pool_gpus(row, phase)


def node_of(row: Any) -> int:
    """GPUs that NVLink joins: a rack on NVL72, else those of a host."""
    if re.match(r"gb[23]00", text(row.gpu).lower()) or "nvl72" in text(row.topology).lower():
        return 72
    gpus, nodes = amount(row.gpus), amount(row.nodes)
    return round(gpus / nodes) if gpus and nodes else NODE


def cached_of(row: Any) -> float:
    """Part of the prompt that the qualifier says was in a cache."""
    words = f"{text(row.qualifier)} {text(row.isl)}"
    found = re.search(r"cache hits?\D{0,4}([\d.]+)\s*%", words)
    return float(found[1]) / 100.0 if found else 0.0


def read_row(row: Any, phase: Phase) -> WideRow:
    """The pool of a row. Raises DataError where neither its topology nor its GPUs say how many experts' ranks."""
    words, ep = text(row.topology), ranks_of(row, phase)
    if ep < 1:
        raise DataError(where="topology", given=words, rule="names neither EP nor GPUs")
    stated = first_number(r"(\d+)\s+redundant", words) or (REDUNDANT if "eplb" in words.lower() else -1)
    batch = int(amount(row.batch_per_gpu))
    output = amount(row.osl) if hasattr(row, "osl") else 0.0
    context = int(amount(row.isl) + (output / 2.0 if phase == "decode" else 0.0)) or CONTEXT
    return WideRow(
        phase, ep, first_number(r"\bTP\s?(\d+)", words) or 1, stated, node_of(row), batch, context, cached_of(row),
        precision_of(text(row.precision)), bool(amount(row.speculative)) if hasattr(row, "speculative") else False,
    )  # fmt: skip
