"""Everything was stopped from another place: say so, and start nothing without being asked."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option


class StoppedScreen(ModalScreen[bool]):
    """Dismissed with whether to start everything again."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "dismiss(True)", "start it again"),
        Binding("q,escape", "dismiss(False)", "leave"),
    ]
    DEFAULT_CSS = """
    StoppedScreen { align: center middle; }
    StoppedScreen Vertical { width: 64; max-width: 96%; height: auto; background: $panel; padding: 1 2; }
    StoppedScreen OptionList { height: auto; background: $panel; border: none; padding: 0; }
    StoppedScreen OptionList:focus { border: none; }
    StoppedScreen Static { padding-bottom: 1; text-style: bold; }
    """

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static("Everything was stopped from another place. Nothing is lost.", markup=False)
            yield OptionList(
                Option(Content("s  start it again"), id="start"), Option(Content("q  leave the control room"), id="leave")
            )

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id == "start")
