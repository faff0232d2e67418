"""A log line as rows of a given width: columns, clipped or wrapped, measured in cells. Knows no colours and no widgets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from rich.cells import cell_len, get_character_cell_size, split_graphemes

from echo_core.text import inert
from echo_tui.glyphs import either
from echo_tui.logs.line import LogLine, parse

ACTION_CELLS = 8
NAME_CELLS = 16  # most for the name of an agent in a merged log
TIME_FROM_CELLS = 30  # a narrower pane has no room for a time beside the text
ALIGN_FROM_CELLS = 24  # nor, below this, for a column of actions
INDENT_FROM_CELLS = 48  # wrapped rows stand below the text from here on, else they take the whole width
LINE_CHARACTERS = 4_000  # of a line are shown, as many as our own log writes
CELL_CHARACTERS = 5  # most in one cell: a letter and the marks any language stacks on it

_ELLIPSIS = either("…", "~")
_LEVELS = {"WARN": ("warn", "WARN ", "W "), "WARNING": ("warn", "WARN ", "W "),
           "ERROR": ("error", "ERR  ", "E "), "CRITICAL": ("error", "ERR  ", "E ")}  # fmt: skip
# Joiners, variation selectors and skin tones change the width of their neighbours, and terminals differ about how.
# Without them every terminal shows the same number of cells, and a row cannot push its neighbours aside.
_UNSURE_WIDTH = re.compile("[\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef]")
# What might have no width: no letter, or a part of a Hangul syllable. Cheap to look for, so that few lines are measured.
_FLOOD = re.compile(rf"(?:[^\w\s\x21-\x7e]|[\u1160-\u11ff\ud7b0-\ud7ff]){{{CELL_CHARACTERS},}}")
_OUR_HEAD = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z (?:INFO +|(?=[A-Z]+ ))")


class Part(NamedTuple):
    """`kind`: time, name, warn, error, action, text or match."""

    text: str
    kind: str


Row = list[Part]


@dataclass(frozen=True, slots=True)
class Columns:
    """How lines are laid out. `name_cells` 0: no column for names."""

    width: int
    name_cells: int = 0
    wrap: bool = False
    pattern: re.Pattern[str] | None = None

    def rows(self, raw: bytes, name: str = "") -> list[Row]:
        """At least one row; each is at most `width` cells. Only `wrap` gives more than one."""
        line = parse(raw[: LINE_CHARACTERS * 4], name)
        head = self._head(line)
        room = max(1, self.width - sum(cell_len(part.text) for part in head))
        action = clean(line.action)
        body = clean(line.text[:LINE_CHARACTERS])
        if action:
            body = f"{action:<{ACTION_CELLS if self.width >= ALIGN_FROM_CELLS else 0}} {body}".rstrip()
        if not body.isascii():
            body = _tamed(body)
        acting = len(body) - len(body[len(action) :].lstrip(" ")) if action else 0  # the column with its padding
        pieces = self._pieces(body, room, acting)
        rows: list[Row] = []
        start = 0
        for number, (indent, text, length) in enumerate(pieces):
            parts = self._marked(body, start, text, length, acting)
            rows.append([*head, *parts] if number == 0 else [Part(" " * indent, "text"), *parts] if indent else parts)
            start += length
        return rows

    def _head(self, line: LogLine) -> Row:
        head: Row = []
        if self.width >= TIME_FROM_CELLS and line.at:
            head.append(Part(f"{line.clock:<8} ", "time"))
        if self.name_cells:
            most = max(3, min(self.name_cells, NAME_CELLS, self.width // 4))
            name = cut(clean(line.name), most)
            head += self._matched(name + " " * (most - cell_len(name) + 1), "name")
        if line.level in _LEVELS:
            kind, long, short = _LEVELS[line.level]
            head.append(Part(long if self.width >= TIME_FROM_CELLS else short, kind))
        return head

    def _pieces(self, body: str, room: int, action: int) -> list[tuple[int, str, int]]:
        """(indent, text, characters of the body it stands for) of each row."""
        if not self.wrap or cell_len(body) <= room:
            return [(0, cut(body, room), len(body))]
        indent = self.width - room
        if self.width >= INDENT_FROM_CELLS:
            indent += ACTION_CELLS + 1 if action else 0
        else:
            indent = min(2, self.width // 10)
        pieces: list[tuple[int, str, int]] = []
        start = 0
        while start < len(body):
            cells = room if not pieces else max(1, self.width - indent)
            length = _fold(body[start : start + cells * CELL_CHARACTERS + 1], cells)
            pieces.append((indent, body[start : start + length].rstrip(" "), length))
            start += length
        return pieces

    def _marked(self, body: str, start: int, text: str, length: int, action: int) -> Row:
        """What `text` shows of the `length` characters of the body from `start` on, matches told apart.

        An ellipsis stands for all that was cut off: it is a match when there is one in there.
        """
        end = start + len(text)
        edges = {start, end, min(max(action, start), end)}
        spans = []
        if self.pattern is not None:
            spans = [
                match.span()
                for match in self.pattern.finditer(body)
                if match.end() > start and match.start() < start + length
            ]
            edges.update(min(max(edge, start), end) for span in spans for edge in span)
            if len(text) < length and text[-1:] == _ELLIPSIS and any(last >= end for _, last in spans):
                spans.append((end - 1, end))
                edges.add(end - 1)
        row: Row = []
        ordered = sorted(edges)
        for left, right in pairwise(ordered):
            matched = any(first <= left and right <= last for first, last in spans)
            kind = "match" if matched else "action" if right <= action else "text"
            row.append(Part(text[left - start : right - start], kind))
        return row

    def _matched(self, text: str, kind: str) -> Row:
        row: Row = []
        done = 0
        for match in self.pattern.finditer(text) if self.pattern is not None else ():
            if match.start() > done:
                row.append(Part(text[done : match.start()], kind))
            row.append(Part(match.group(), "match"))
            done = match.end()
        return [*row, Part(text[done:], kind)] if done < len(text) else row


def clean(text: str) -> str:
    """Inert, and of a width that terminals agree about."""
    if not text.isprintable():  # asked first, because it costs next to nothing and is nearly always true
        text = inert(text.expandtabs(4))
    return text if text.isascii() else _UNSURE_WIDTH.sub("", text)


def searchable(raw: bytes) -> str:
    """What of a line is searched: what is shown, without its time and a level that is not shown."""
    head = _OUR_HEAD.match(raw)
    return clean(raw[head.end() if head else 0 :][: LINE_CHARACTERS * 4].decode("utf-8", "replace").rstrip("\r\n"))


def cut(text: str, cells: int) -> str:
    """At most `cells` cells; an ellipsis where something was cut."""
    if text.isascii():
        return text if len(text) <= cells else text[: max(0, cells - 1)] + _ELLIPSIS
    text = text[: (cells + 1) * CELL_CHARACTERS]  # more than fits, and no more than that is measured
    if cell_len(text) <= cells:
        return text
    return text[: _reach(text, cells - 1)] + _ELLIPSIS


def _reach(text: str, cells: int) -> int:
    """How many characters fit into `cells`, never half of one and its marks."""
    if text.isascii():
        return min(len(text), max(0, cells))
    taken = 0
    for index, character in enumerate(text):
        taken += get_character_cell_size(character)
        if taken > cells:
            return index
    return len(text)


def _fold(text: str, cells: int) -> int:
    """Where to break a text that begins a row: after a space in its last third, else where the row is full."""
    length = max(1, _reach(text, cells))
    if length >= len(text):
        return len(text)
    if text[length] == " ":
        return length + 1
    space = text.rfind(" ", length - length // 3, length)
    return space + 1 if space > 0 else length


def _tamed(text: str) -> str:
    """No cell holds more than a letter and a few marks, also those of scripts whose marks are letters to Unicode."""
    if not _FLOOD.search(text):
        return text
    spans, _ = split_graphemes(text)
    return "".join(text[start : min(end, start + CELL_CHARACTERS)] for start, end, _ in spans)
