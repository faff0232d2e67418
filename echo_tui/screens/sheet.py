"""What the screens over the control room have in common: a title, a line that answers, the keys that matter now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.widget import Widget

from echo_core.text import inert
from echo_tui.columns import Part
from echo_tui.messages import Tell
from echo_tui.screens.over import OverScreen
from echo_tui.state import RoomState
from echo_tui.widgets.line import Line

if TYPE_CHECKING:
    from echo_tui.link import Link

Key = tuple[str, str]  # the key as a person reads it, and what it does
BACK: Key = ("esc", "back")
NARROW = 100  # columns below which only one thing has room beside another


class Sheet(OverScreen):
    """Subclasses say what stands between title and keys (`body`) and put values there (`paint`).

    Without a link the screen shows what the state holds.
    """

    DEFAULT_CSS = """
    Sheet { background: $background; layout: vertical; }
    Sheet > #title, Sheet > #keys { background: $panel; }
    """

    def __init__(self, state: RoomState, link: Link | None) -> None:
        super().__init__(state)
        self.link = link

    def compose(self) -> ComposeResult:
        yield Line(id="title")
        yield from self.body()
        yield Line(id="answer")
        yield Line(id="keys")

    def body(self) -> Iterable[Widget]:
        raise NotImplementedError

    def paint(self) -> None:
        """Show `self.state`; called with every new state and every new size."""
        raise NotImplementedError

    def show(self, state: RoomState) -> None:
        super().show(state)
        if self.is_mounted:
            self.paint()

    def on_mount(self) -> None:
        self.paint()

    def on_resize(self) -> None:
        self.paint()

    def say_keys(self, keys: Sequence[Key]) -> None:
        """In the order of their weight: those that don't fit whole are left out from the end; the way back never is."""
        room = self.size.width - 2 - _cells(BACK)
        shown: list[Key] = []
        for key in keys:
            room -= _cells(key)
            if room < 0:
                break
            shown.append(key)
        parts: list[Part] = []
        for name, does in (*shown, BACK):
            parts += [(name, "bold $accent"), (f" {does}  ", "$text-muted")]
        self.query_one("#keys", Line).say(parts)

    @property
    def title_line(self) -> Line:
        return self.query_one("#title", Line)

    def told(self, text: str, *, urgent: bool = False) -> None:
        self.trouble(text, urgent=urgent)

    def answer(self, text: str, *, urgent: bool = False) -> None:
        """One line in this screen, and on the control room's event line."""
        self.trouble(text, urgent=urgent)
        if text:
            self.post_message(Tell(text, urgent=urgent))

    def trouble(self, text: str, *, urgent: bool = True) -> None:
        """One line in this screen alone: what is asked again every two seconds must not flood the event line."""
        if self.is_mounted:  # before that there is nobody to read it
            self.query_one("#answer", Line).say([(inert(text), "$warning" if urgent else "$text-muted")])


def _cells(key: Key) -> int:
    return cell_len(key[0]) + cell_len(key[1]) + 3
