"""Lines of a text to be read: wrapped at whole words, with hanging indents and columns. Every text in it is inert."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from echo_core.text import inert_block
from echo_tui.columns import Part

Cell = Sequence[Part]
GAP = 2  # cells between two columns
LEAST = 40


class Page:
    """Collects `lines`, none wider than `width` cells (or `LEAST`, where there is less: columns need that much)."""

    def __init__(self, width: int) -> None:
        self.width = max(width, LEAST)
        self.lines: list[Content] = []

    def blank(self) -> None:
        if self.lines and self.lines[-1].plain:
            self.lines.append(Content(""))

    def heading(self, text: str, *more: Part) -> None:
        self.blank()
        self.text((text, "bold $accent"), *more)

    def text(self, *parts: Part, first: Part = ("", ""), indent: int = 0) -> None:
        """A paragraph. `first` stands before its first line and the others hang below the text."""
        lead = Content.styled(first[0], first[1])
        hang = indent + lead.cell_length
        for number, line in enumerate(_flow(parts).wrap(self.width - hang)):
            begin = Content(" " * indent) + lead if number == 0 else Content(" " * hang)
            self.lines.append(begin + line)

    def grid(self, widths: Sequence[int], cells: Sequence[Cell], *, right: Sequence[int] = (), indent: int = 0) -> None:
        """One row; a width of 0 takes what is left. A cell that is too long goes on below itself."""
        gaps = GAP * (len(widths) - 1)
        rest = max(8, self.width - indent - sum(widths) - gaps)
        actual = [width or rest for width in widths]
        columns = [_flow(cell).wrap(width) if cell else [] for cell, width in zip(cells, actual, strict=True)]
        for number in range(max(len(column) for column in columns)):
            line = Content(" " * indent)
            for index, (column, width) in enumerate(zip(columns, actual, strict=True)):
                part = column[number] if number < len(column) else Content("")
                blank = " " * max(0, width - part.cell_length)
                line += Content(blank) + part if index in right else part + blank
                line += " " * GAP if index < len(actual) - 1 else ""
            self.lines.append(line.rstrip())


def _flow(parts: Sequence[Part]) -> Content:
    return Content.assemble(*((inert_block(text), style) for text, style in parts))
