"""Text in columns of a terminal: measured in cells, cut with an ellipsis, and inert."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from echo_core.text import inert
from echo_tui.glyphs import either

Part = tuple[str, str]  # text and a style such as "bold $accent"


def clip(text: object, width: int) -> str:
    """At most `width` cells of one inert line, with an ellipsis where something was cut."""
    line = inert(text)
    if width <= 0:
        return ""
    if cell_len(line) <= width:
        return line
    return set_cell_size(line, width - 1).rstrip() + either("…", "~")


def fit(text: object, width: int, *, right: bool = False) -> str:
    """Exactly `width` cells: cut or padded."""
    line = clip(text, width)
    blank = " " * max(0, width - cell_len(line))
    return blank + line if right else line + blank


def row(left: Sequence[Part], right: Sequence[Part], width: int) -> Content:
    """One line of `width` cells: `right` stands at the end, and `left` is cut where the two would meet."""
    room = width - sum(cell_len(text) for text, _ in right)
    parts: list[Part] = []
    for text, style in left:
        if room <= 0:
            break
        shown = clip(text, room) if cell_len(text) > room else text
        parts.append((shown, style))
        room -= cell_len(shown)
    return Content.assemble(*parts, " " * max(0, room), *(part for part in right)).truncate(max(width, 0))


def wrapped(text: str, width: int, most: int) -> list[str]:
    """At most `most` lines of whole words; the last is cut with an ellipsis when more would follow."""
    import textwrap

    lines = textwrap.wrap(inert(" ".join(text.split())), max(width, 8)) or [""]
    if len(lines) > most:
        lines = [*lines[: most - 1], clip(f"{lines[most - 1]} {lines[most]}", width)]
    return lines


def duration(seconds: float | None) -> str:
    """`0.4s`, `12s`, `3m05`, `2h04`: five cells at most."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    if seconds < 100:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}"
    return f"{minutes // 60}h{minutes % 60:02d}"
