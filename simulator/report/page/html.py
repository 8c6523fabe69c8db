"""Pieces of HTML; everything that came from a user is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from simulator.report.figures.figure import Figure


def text(value: object) -> str:
    """Escaped text."""
    return escape(str(value), quote=True)


def tag(name: str, body: str, **attributes: str) -> str:
    """An element; `body` is HTML, attribute values are text. `class_` is `class`."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items())
    return f"<{name}{given}>{body}</{name}>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numeric: Sequence[int] = ()) -> str:
    """A table that scrolls sideways on narrow screens; columns in `numeric` are set to the right."""

    def row(cells: Sequence[object], kind: str) -> str:
        return tag("tr", "".join(f'<{kind}{" class=n" if i in numeric else ""}>{text(c)}</{kind}>'
                                 for i, c in enumerate(cells)))  # fmt: skip

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll"><table><thead>{row(head, "th")}</thead><tbody>{body}</tbody></table></div>'


class Plots:
    """Collects the plots of a page; each gets a number, by which the script finds its data."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def place(self, figure: Figure) -> str:
        """The element that the script draws the figure into."""
        self.figures.append(figure)
        note = tag("p", text(figure.note), class_="note") if figure.note else ""
        box = f'<div class="plot" data-plot="{len(self.figures) - 1}" style="height:{figure.height}px"></div>'
        return tag("figure", tag("h3", text(figure.title)) + note + box)

    def all(self, figures: Iterable[Figure]) -> str:
        """Several figures below one another."""
        return "".join(self.place(figure) for figure in figures)

    def choice(self, figures: Sequence[Figure], first: int = -1) -> str:
        """Several figures of which one is seen at a time, at first the one numbered `first`; buttons above choose."""
        if len(figures) < 2:
            return self.all(figures)
        chosen = first % len(figures)
        buttons = "".join(
            f'<button type="button" aria-pressed="{"true" if i == chosen else "false"}">{text(f.title)}</button>'
            for i, f in enumerate(figures)
        )
        panes = "".join(
            f'<div class="pane"{"" if i == chosen else " hidden"}>{self.place(f)}</div>' for i, f in enumerate(figures)
        )
        return f'<div class="choice"><div class="buttons" role="group">{buttons}</div>{panes}</div>'


def section(title: str, body: str, *, lead: str = "", opened: bool = True) -> str:
    """A part of the page that can be folded away; nothing where it is empty."""
    if not body:
        return ""
    lead = tag("p", text(lead), class_="lead") if lead else ""
    return f"<details{' open' if opened else ''}><summary><h2>{text(title)}</h2></summary>{lead}{body}</details>"
