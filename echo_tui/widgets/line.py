"""One row of text: a part at the left, a part at the right."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widget import Widget

from echo_tui.columns import Part, row


class Line(Widget):
    """`left` is cut with an ellipsis where it would meet `right`. Texts of others must be inert already."""

    DEFAULT_CSS = "Line { height: 1; padding: 0 1; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._parts: tuple[tuple[Part, ...], tuple[Part, ...]] = ((), ())

    def say(self, left: Sequence[Part], right: Sequence[Part] = ()) -> None:
        parts = (tuple(left), tuple(right))
        if parts != self._parts:
            self._parts = parts
            self.refresh()

    def render(self) -> Content:
        return row(*self._parts, self.content_size.width)

    @property
    def text(self) -> str:
        """What it says, whole."""
        return "".join(text for side in self._parts for text, _ in side)
