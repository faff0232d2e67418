"""The last line: the keys that matter now."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from echo_tui.columns import Part

Key = tuple[str, str]  # the key as a person reads it, and what it does
BACK: Key = ("esc", "back")


class KeyLine(Widget):
    """`keys` in the order of their weight: those that don't fit whole are left out from the end, `last` never."""

    DEFAULT_CSS = "KeyLine { height: 1; padding: 0 1; background: $panel; }"

    keys: reactive[Sequence[Key]] = reactive((), layout=False)
    last: reactive[Key] = reactive(BACK, layout=False)

    def render(self) -> Content:
        room = self.content_size.width - _width(self.last)
        shown: list[Key] = []
        for key in self.keys:
            room -= _width(key) + 2
            if room < 0:
                break
            shown.append(key)
        parts: list[Part] = []
        for name, does in (*shown, self.last):
            parts += [(name, "bold $accent"), (f" {does}  ", "$text-muted")]
        return Content.assemble(*parts).truncate(max(0, self.content_size.width))


def _width(key: Key) -> int:
    return cell_len(key[0]) + 1 + cell_len(key[1])
