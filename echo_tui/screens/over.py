"""A full screen over the control room."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from echo_tui.state import RoomState


class OverScreen(Screen[None]):
    """Handed every new state while it is open; `escape` goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "back", id="back")]

    def __init__(self, state: RoomState) -> None:
        super().__init__()
        self.state = state

    def show(self, state: RoomState) -> None:
        """Called by the app with each new state."""
        self.state = state

    def told(self, text: str, *, urgent: bool = False) -> None:
        """Called by the app with what it puts on the event line, which this screen covers."""
