"""Text of agents, models and people made harmless for a terminal: data can move no cursor and hide nothing."""

from __future__ import annotations

from echo_core.logs import escaped


def inert(text: object) -> str:
    """One line: control, escape, bidi and invisible characters are written out (`\\x1b`), floods of marks are cut."""
    return escaped(str(text))


def inert_block(text: object) -> str:
    """The same for text of several lines: line ends stay, tabs become spaces."""
    return "\n".join(escaped(line.expandtabs(4)) for line in str(text).replace("\r\n", "\n").split("\n"))
