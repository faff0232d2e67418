"""What the screens over the control room have in common: a title, a line that answers, the keys that matter now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from echo_core.text import inert
from echo_tui.messages import Tell
from echo_tui.screens.over import OverScreen
from echo_tui.state import RoomState
from echo_tui.widgets.line import Line

if TYPE_CHECKING:
    from echo_tui.link import Link

Key = tuple[str, str]  # the key as a person reads it, and what it does
BACK: Key = ("esc", "back")
KEY_ROWS = 2
NARROW = 100  # columns below which only one thing has room beside another


class Sheet(OverScreen):
    """Subclasses say what stands between title and keys (`body`) and put values there (`paint`).

    Without a link the screen shows what the state holds.
    """

    DEFAULT_CSS = """
    Sheet { background: $background; layout: vertical; }
    Sheet > #title, Sheet > #keys { background: $panel; }
    Sheet > #keys { height: auto; padding: 0 1; }
    """

    def __init__(self, state: RoomState, link: Link | None) -> None:
        super().__init__(state)
        self.link = link
        self._trouble = ""

    def compose(self) -> ComposeResult:
        yield Line(id="title")
        yield from self.body()
        yield Line(id="answer")
        yield Static(id="keys", markup=False)

    def body(self) -> Iterable[Widget]:
        raise NotImplementedError

    def paint(self) -> None:
        """Show `self.state`; called with every new state and every new size."""
        raise NotImplementedError

    def show(self, state: RoomState) -> None:
        before, now = self.state.problem, state.problem
        super().show(state)
        if self.is_mounted:
            if now != before:
                self.trouble(now) if now else self.relieved()
            self.paint()

    def on_mount(self) -> None:
        self.paint()

    def on_resize(self) -> None:
        self.paint()

    def say_keys(self, keys: Sequence[Key]) -> None:
        """In the order of their weight, in as many as `KEY_ROWS` rows: what doesn't fit is left out, the way back never."""
        width = self.size.width - 2
        rows: list[list[Key]] = [[]]
        for key in keys:
            last = len(rows) == KEY_ROWS
            if _cells([*rows[-1], key, *([BACK] if last else [])]) > width:
                if last:
                    break
                rows.append([])
            rows[-1].append(key)
        if _cells([*rows[-1], BACK]) > width:
            rows.append([])
        rows[-1].append(BACK)
        self.query_one("#keys", Static).update(Content("\n").join(map(_shown, rows)))

    @property
    def title_line(self) -> Line:
        return self.query_one("#title", Line)

    def told(self, text: str, *, urgent: bool = False) -> None:
        self._say(text, urgent)

    def answer(self, text: str, *, urgent: bool = False) -> None:
        """One line in this screen, and on the control room's event line."""
        self._say(text, urgent)
        self.post_message(Tell(text, urgent=urgent))

    def trouble(self, text: str) -> None:
        """What stands in the way, until `relieved`; not on the event line, which reading every two seconds would flood."""
        self._trouble = text
        self._say(text, True)

    def relieved(self) -> None:
        """What was read now could be read: the line about the trouble before is not true any more."""
        if self._trouble and self._trouble == self.state.problem:
            return
        if self._trouble and self.query_one("#answer", Line).text == inert(self._trouble):
            self._say("", False)
        self._trouble = ""

    def _say(self, text: str, urgent: bool) -> None:
        if self.is_mounted:  # before that there is nobody to read it
            self.query_one("#answer", Line).say([(inert(text), "$warning" if urgent else "$text-muted")])


def _cells(keys: Sequence[Key]) -> int:
    return sum(cell_len(name) + cell_len(does) + 3 for name, does in keys) - 2


def _shown(keys: Sequence[Key]) -> Content:
    return Content.assemble(
        *(part for name, does in keys for part in ((name, "bold $accent"), (f" {does}  ", "$text-muted")))
    )
