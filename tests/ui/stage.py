"""An app with nothing but the screen under test, and what that screen sent upward."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App
from textual.screen import Screen

from echo_tui.messages import ComposeTo, Control, Say, Tell
from echo_tui.themes import DARK


class Stage(App[None]):
    CSS = ""
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(self, *screens: Screen[None]) -> None:
        super().__init__()
        self._screens = screens
        self.sent: list[ComposeTo | Control | Say | Tell] = []

    def on_mount(self) -> None:
        self.register_theme(DARK)
        self.theme = DARK.name
        for screen in self._screens:
            self.push_screen(screen)

    def on_tell(self, message: Tell) -> None:
        self.sent.append(message)

    def on_say(self, message: Say) -> None:
        self.sent.append(message)

    def on_control(self, message: Control) -> None:
        self.sent.append(message)

    def on_compose_to(self, message: ComposeTo) -> None:
        self.sent.append(message)


def text_of(app: App[None]) -> str:
    """What stands on the screen, line by line."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in lines)
