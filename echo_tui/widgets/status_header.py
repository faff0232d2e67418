"""The top line: organisation, decision, the lights of the servers, the time."""

from __future__ import annotations

from datetime import datetime

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from echo_core.text import inert
from echo_tui.columns import Part, clip, row
from echo_tui.glyphs import light_glyph
from echo_tui.state import RoomState

_SHORT = {"postgresql": "postgres", "redis": "redis", "ollama": "ollama"}
_SHORTEST = {"postgresql": "pg"}
_WIDE = 110  # columns from which a light has its name and what it means


class StatusHeader(Widget):
    """One row. What is not well says why beside its light."""

    DEFAULT_CSS = "StatusHeader { height: 1; }"

    state: reactive[RoomState] = reactive(RoomState(), layout=False)
    now: reactive[datetime | None] = reactive(None, layout=False)

    def render(self) -> Content:
        width = self.size.width - 2
        snapshot = self.state.snapshot
        name = snapshot.organisation if snapshot else ""
        left: list[Part] = [("ECHO", "bold $accent")]
        if name and name != "ECHO":
            left.append((f" · {inert(name)}", "$text-muted"))
        right = self._right(width)
        if decision := self.state.decision:
            more = f" (+{self.state.open_decisions - 1} open)" if self.state.open_decisions > 1 else ""
            left.append((f"   #{decision.number} ", "$text-muted"))
            left.append((f"{clip(decision.subject, max(12, width))}", "bold"))
            left.append((more, "$text-muted"))
        return Content.assemble(" ", row(left, right, width), " ")

    def _right(self, width: int) -> list[Part]:
        parts: list[Part] = [("  ", "")]
        snapshot = self.state.snapshot
        for light in snapshot.dependencies if snapshot else ():
            shape, colour = light_glyph(light.state)
            parts.append((f"{shape} ", colour))
            quiet = light.state in ("up", "starting") or width < _WIDE
            why = "" if quiet else f" {light.state}" + (f": {clip(light.detail, 24)}" if light.name == "ollama" else "")
            text = f"{(_SHORT if width >= 90 else _SHORTEST).get(light.name, light.name)}{why}"
            parts.append((f"{text}  ", "$text-muted" if light.state != "down" else "$error"))
        if self.now is not None:
            parts.append((f"{self.now:%H:%M:%S}", "$text-muted"))
        return parts
