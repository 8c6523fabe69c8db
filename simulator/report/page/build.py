"""One HTML file from runs: sections, then data, script and plotly.js packed inside."""

import base64
import gzip
import json
from collections.abc import Sequence
from importlib.resources import files

from plotly.offline import get_plotlyjs

from simulator import __version__
from simulator.metrics.result import RunResult
from simulator.report import digest
from simulator.report.answer import binding
from simulator.report.figures.compare import comparison
from simulator.report.figures.figure import Figure
from simulator.report.page import sections
from simulator.report.page.html import Plots, section, table, tag, text
from simulator.units import format_bytes, format_time

_BARS_IN_COMPARISON = 1200
"""A page of several runs draws shorter timelines, so that it stays a few megabytes."""


def page(results: Sequence[RunResult], title: str, description: str) -> str:
    """The page about one run, or about several side by side."""
    plots = Plots()
    if len(results) == 1:
        inside = sections.answer(results[0]) + sections.body(results[0], plots)
    else:
        inside = _comparison(results, plots)
    events = sum(result.events for result in results)
    said = f"shardsim {__version__} · {events:,} simulated events · times are predictions"
    return document(plots, title, description, inside, said)


def figure_page(figures: Sequence[Figure], title: str, description: str) -> str:
    """A page with a few figures and nothing else."""
    plots = Plots()
    inside = "".join(tag("div", plots.place(figure), class_="card") for figure in figures)
    return document(plots, title, description, inside, f"shardsim {__version__}")


def document(
    plots: Plots,
    title: str,
    description: str,
    inside: str,
    footer: str,
    *,
    style: str = "",
    script: str = "",
    data: str = "",
) -> str:
    """A whole page around `inside`; `style` and `script` are added to the page's own, `data` is elements they read."""
    assets = files("simulator.report.page")
    style = assets.joinpath("page.css").read_text(encoding="utf-8") + style
    own = assets.joinpath("page.js").read_text(encoding="utf-8")
    figures = json.dumps([figure.as_json() for figure in plots.figures], separators=(",", ":"), allow_nan=False)
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="shardsim {text(__version__)}"><link rel="icon" href="data:,">'
        f"<title>{text(title)} · shardsim</title><style>{style}</style>"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body><main>{_top(title, description)}{inside}</main>'
        f"{tag('footer', text(footer))}{_packed('plotly', get_plotlyjs())}{_packed('figures', figures)}{data}"
        f"<script>{own}</script>{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def _packed(name: str, content: str) -> str:
    """Content the script unpacks: a third of the size, and no character of it can end the script element."""
    packed = base64.b64encode(gzip.compress(content.encode(), 9, mtime=0)).decode()
    return f'<script type="application/octet-stream" id="{name}">{packed}</script>\n'


def _top(title: str, description: str) -> str:
    words = tag("p", text(description), class_="description") if description else ""
    return tag("header", f'<p class="name"><span>shardsim</span> {text(title)}</p>{words}')


def _comparison(results: Sequence[RunResult], plots: Plots) -> str:
    parts = [tag("h1", text(_verdict(results)), class_="headline"), _modes(results)]
    drawn = comparison(results)
    parts.append(section("Side by side", tag("div", plots.all(drawn), class_="grid")))
    for result in results:
        inside = tag("p", text(result.description), class_="description") + sections.answer(result, "h3")
        inside += sections.body(result, plots, _BARS_IN_COMPARISON)
        parts.append(section(result.name, tag("div", inside, class_="inner"), opened=False))
    return "".join(parts)


def _verdict(results: Sequence[RunResult]) -> str:
    fits = sum(result.fits for result in results)
    right = sum(result.correctness.tokens_equal for result in results)
    checked = sum(result.correctness.checked for result in results)
    if fits == right == len(results):
        said = f"All {len(results)} fit and compute the right tokens"
    else:
        said = f"{fits} of {len(results)} fit, {right} of the {checked} that were checked compute the right tokens"
    timed = [result for result in results if digest.finite(result.decode_s) is not None]
    fastest = min(timed, key=lambda result: result.decode_s, default=None)
    if fastest is None:
        return f"{said}."
    return f"{said}; {fastest.name} has the shortest decode step, {format_time(fastest.decode_s)}."


def _modes(results: Sequence[RunResult]) -> str:
    head = ("", "layout", "fits", "tokens", "prefill", "decode step", "tokens/s", "tokens/s a GPU",
            "communi\u00adcation", "NIC bytes a GPU", "memory", "binds")  # fmt: skip
    return tag("div", table(head, [_mode(result) for result in results], numeric=range(4, 11)), class_="modes")


def _mode(result: RunResult) -> tuple[str, ...]:
    most, phases = digest.fullest(result), digest.phases(result)
    rate, gpus = digest.tokens_per_s(result), max(1, len(result.memory))
    layouts = [str(v) for k, v in result.facts.items() if k == "Layout" or k.startswith("Pool ")]
    checked = result.correctness.checked
    return (
        result.name,
        "; ".join(layouts),
        "yes" if result.fits else "no",
        ("equal" if result.correctness.tokens_equal else "differ") if checked else "not checked",
        _time(result.prefill_s),
        _time(result.decode_s),
        f"{rate:,.0f}" if digest.finite(rate) is not None else "-",
        f"{rate / gpus:,.0f}" if digest.finite(rate) is not None else "-",
        f"{digest.comm_share(result, phases[-1]):.0%}" if phases else "-",
        format_bytes(digest.bytes_by_class(result).get("NIC", 0.0) / gpus),
        f"{most.share:.0%}" if most else "-",
        binding(result),
    )


def _time(time_s: float) -> str:
    return format_time(time_s) if digest.finite(time_s) is not None else "-"
