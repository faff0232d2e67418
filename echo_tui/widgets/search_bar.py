"""Searching the logs: one line at the bottom, matches marked in every pane as it is typed."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label, Static


class SearchBar(Horizontal):
    """`enter` and `down` go to the next match, `up` to the one before, `escape` ends it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "end the search", id="close-search", priority=True),
        Binding("down", "step(1)", "next match", priority=True),
        Binding("up", "step(-1)", "match before", priority=True),
    ]
    DEFAULT_CSS = """
    SearchBar { height: 1; padding: 0 1; }
    SearchBar Label { color: $accent; width: auto; padding: 0 1 0 0; }
    SearchBar Input { width: 1fr; }
    SearchBar Static { width: auto; color: $text-muted; padding: 0 0 0 1; }
    """

    class Changed(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Step(Message):
        """To the next match (1) or the one before (-1)."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction

    class Closed(Message):
        """Nothing is searched for any more."""

    def compose(self) -> ComposeResult:
        yield Label("/")
        yield Input(compact=True, placeholder="search the logs")
        yield Static("", markup=False)

    def on_mount(self) -> None:
        self.focus_field()

    def focus_field(self) -> None:
        self.query_one(Input).focus()

    def tell(self, text: str) -> None:
        self.query_one(Static).update(text)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Step(1))

    def action_step(self, direction: int) -> None:
        self.post_message(self.Step(direction))

    def action_close(self) -> None:
        self.post_message(self.Closed())
        self.remove()
