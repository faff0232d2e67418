"""Leaving: stop everything, leave it running, or stay."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from echo_tui.columns import duration


class QuitScreen(ModalScreen[str]):
    """Dismissed with `detach` or `stay`. Stopping is asked for by a message, and the screen stays to show it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "choose('stop')", "stop everything"),
        Binding("l,d", "choose('detach')", "leave it running"),
        Binding("escape,q,n", "choose('stay')", "stay"),
    ]
    DEFAULT_CSS = """
    QuitScreen { align: center middle; background: $background 60%; }
    QuitScreen Vertical { width: 64; max-width: 96%; height: auto; background: $panel; padding: 1 2; }
    QuitScreen OptionList { height: auto; background: $panel; border: none; padding: 0; }
    QuitScreen OptionList:focus { border: none; }
    QuitScreen #title { padding-bottom: 1; text-style: bold; }
    """

    class StopEverything(Message):
        """End all processes of the data directory, then leave; `asker` is told when that fails."""

        def __init__(self, asker: QuitScreen) -> None:
            super().__init__()
            self.asker = asker

    def __init__(self, agents: int, open_decisions: int) -> None:
        super().__init__()
        self._agents, self._open = agents, open_decisions
        self._seconds = 0.0
        self._stopping = False

    def compose(self) -> ComposeResult:
        several = "decision goes" if self._open == 1 else "decisions go"
        going = f"\n{self._open} open {several} on from where it stands, now or later." if self._open else ""
        agents = f"{self._agents} agent{'' if self._agents == 1 else 's'}"
        with Vertical():
            yield Static(f"Leave the control room?{going}", id="title", markup=False)
            yield OptionList(
                Option(Content(f"s  stop everything: {agents} and the servers"), id="stop"),
                Option(Content("l  leave it running: `echo-tui` comes back to it"), id="detach"),
                Option(Content("q  stay"), id="stay"),
                id="choices",
            )
            yield Static("", id="progress", markup=False)

    def on_mount(self) -> None:
        self.query_one("#progress").display = False
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_choose(event.option.id or "stay")

    def action_choose(self, choice: str) -> None:
        if self._stopping:
            return
        if choice != "stop":
            self.dismiss(choice)
            return
        self._stopping = True
        self.query_one(OptionList).display = False
        self.query_one("#progress").display = True
        self._tell()
        self.set_interval(0.1, self._tell)
        self.post_message(self.StopEverything(self))

    def _tell(self) -> None:
        text = f"Stopping the agents, then the servers… {duration(self._seconds)}"
        self.query_one("#progress", Static).update(Content(text))
        self._seconds += 0.1

    def failed(self, reason: str) -> None:
        """Something still runs: say so, and let the operator choose again."""
        self._stopping = False
        self.query_one(OptionList).display = True
        self.query_one("#progress", Static).update(Content(reason))
