"""The line above the keys: what happened last, and the counts that must stay small."""

from __future__ import annotations

from datetime import datetime

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from echo_core.text import inert
from echo_tui.columns import Part, row
from echo_tui.glyphs import either
from echo_tui.state import RoomState


class EventLine(Widget):
    """`told` is (when, text, urgent)."""

    DEFAULT_CSS = "EventLine { height: 1; }"

    state: reactive[RoomState] = reactive(RoomState(), layout=False)
    told: reactive[tuple[datetime | None, str, bool]] = reactive((None, "", False), layout=False)

    def render(self) -> Content:
        when, text, urgent = self.told
        if self.state.problem:
            text, urgent = self.state.problem, True
        elif self.state.snapshot and self.state.snapshot.notice and not text:
            text, urgent = self.state.snapshot.notice, True
        left: list[Part] = [(f"{when:%H:%M:%S} ", "$text-muted")] if when and text == self.told[1] else []
        left.append((inert(text), "$warning" if urgent else ""))
        return Content.assemble(" ", row(left, self._counts(), self.size.width - 2), " ")

    def _counts(self) -> list[Part]:
        snapshot = self.state.snapshot
        if snapshot is None:
            return []
        parts: list[Part] = [("  ", "")]
        narrow = self.size.width < 100
        for count, name, worrying in (
            (snapshot.pending, "waiting", False),
            (snapshot.dead, "dead", True),
            (snapshot.outbox, "outbox", True),
        ):
            if narrow and not count:
                continue
            text = f"outbox {count}" if name == "outbox" else f"{count} {name}"
            parts += [(text, "$warning" if worrying and count else "$text-muted"), ("  ", "")]
        decision = self.state.decision
        pace = "paused" if decision and decision.paused and decision.status == "pending" else ""
        pace = pace or ("step by step" if self.state.pace == "step" else "automatic")
        parts.append((pace, "$warning" if pace == "paused" else "$text-muted"))
        if calls := self.state.calls_for_a_person:
            parts.append((f"  {either('▲', '!')} {len(calls)}", "$warning"))
        return parts
