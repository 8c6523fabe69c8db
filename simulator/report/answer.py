"""The answer in words: fits? correct? how long? what binds?"""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from simulator.metrics.result import RunResult
from simulator.report.digest import fullest, tokens_per_s
from simulator.units import format_bytes, format_time


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of the four questions, answered."""

    question: str
    answer: str
    detail: str
    state: Literal["good", "bad", "neutral"]


def verdicts(result: RunResult) -> tuple[Verdict, ...]:
    """The four answers, in the order they are asked."""
    return (
        _fits(result),
        _correct(result),
        _time(result),
        Verdict("What binds?", binding(result), result.binds[:1].upper() + result.binds[1:], "neutral"),
    )


def headline(result: RunResult) -> str:
    """One sentence that says it all: `Fits, computes the right tokens, 18.4 ms a decode step`."""
    fits = "Fits" if result.fits else "Does not fit"
    right = {True: "computes the right tokens", False: "computes wrong tokens"}
    parts = [fits, *([right[result.correctness.tokens_equal]] if result.correctness.checked else []), _step(result)]
    return ", ".join(part for part in parts if part)


def _step(result: RunResult) -> str:
    if isfinite(result.decode_s):
        return f"{format_time(result.decode_s)} a decode step"
    return f"{format_time(result.prefill_s)} for the prefill" if isfinite(result.prefill_s) else ""


def _fits(result: RunResult) -> Verdict:
    most = fullest(result)
    detail = ""
    if most is not None:
        used, capacity = format_bytes(most.total_bytes), format_bytes(most.capacity_bytes)
        detail = f"{used} of {capacity} on the fullest GPU ({most.share:.0%})"
    return Verdict("Does it fit?", "Yes" if result.fits else "No", detail, "good" if result.fits else "bad")


def _correct(result: RunResult) -> Verdict:
    found = result.correctness
    if not found.checked:
        return Verdict("Is it correct?", "Not checked", found.reason, "neutral")
    tokens = found.prompts * found.tokens_per_prompt
    same = sum(a == b for x, y in zip(found.sharded, found.reference, strict=False) for a, b in zip(x, y, strict=False))
    detail = (
        f"{same} of {tokens} tokens equal the unsharded model's; largest error {found.largest_error:.1e} in float64"
    )
    return Verdict(
        "Is it correct?", "Yes" if found.tokens_equal else "No", detail, "good" if found.tokens_equal else "bad"
    )


def _time(result: RunResult) -> Verdict:
    prefill = f"prefill {format_time(result.prefill_s)}" if isfinite(result.prefill_s) else ""
    if not isfinite(result.decode_s):
        return Verdict("How long?", format_time(result.prefill_s), "the prefill step", "neutral")
    rate = tokens_per_s(result)
    parts = ["a decode step", f"{rate:,.0f} tokens/s in all" if isfinite(rate) else "", prefill]
    return Verdict("How long?", format_time(result.decode_s), "; ".join(p for p in parts if p), "neutral")


def binding(result: RunResult) -> str:
    """The binding part in a word or two, for large type."""
    sentence = result.binds.lower()
    for mark, word in (
        ("bound by communication", "Links"),
        ("hbm", "Memory bandwidth"),
        ("tensor core", "Arithmetic"),
        ("launch", "Fixed times"),
    ):
        if mark in sentence:
            return word
    return "See below"


def answer_lines(result: RunResult) -> list[str]:
    """The answer as the command line prints it."""
    lines = [f"{result.name}: {headline(result)}"]
    lines += [f"  {v.question:15} {v.answer}" + (f" ({v.detail})" if v.detail else "") for v in verdicts(result)[:3]]
    lines.append(f"  What binds?     {result.binds}")
    return lines + [f"  note: {warning}" for warning in result.warnings]
