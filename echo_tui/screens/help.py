"""Every key, in one screen."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from echo_core.health.states import AgentState
from echo_tui.columns import fit
from echo_tui.glyphs import agent_glyph

_GROUPS = (
    ("Decide", (
        ("b", "compose a broadcast"), ("ctrl+s", "send it (in the composer)"), ("n", "next phase"),
        ("a", "run on automatically / step"), ("p", "pause / resume"), ("d", "decision room: read, speak, overrule"),
    )),
    ("Watch", (
        ("1…9 tab", "focus an agent's pane"), ("z", "zoom the focused pane"), ("m", "all logs merged in one"),
        ("/", "search the logs"), ("f end", "follow the tail"), ("↑ pgup home", "scroll back"),
    )),
    ("Agents", (("r", "restart the focused agent"), ("x", "stop / start the focused agent"), ("h", "health"))),
    ("Look up", (("l", "messages and dead letters"), ("o", "models"), ("ctrl+p", "every command, by name"))),
    ("Leave", (("q", "stop everything, leave it running, or stay"), ("esc", "back"))),
)  # fmt: skip


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "back")]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen Vertical { width: 74; max-width: 96%; height: auto; max-height: 96%; background: $panel; padding: 1 2; }
    HelpScreen VerticalScroll { height: auto; max-height: 100%; scrollbar-size-vertical: 1; }
    """

    def compose(self) -> ComposeResult:
        with Vertical(), VerticalScroll():
            yield Static(_text(), markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()


def _text() -> Content:
    lines = []
    for title, keys in _GROUPS:
        lines.append(Content.assemble((f"{title:<9}", "bold"), *_key(*keys[0])))
        lines += [Content.assemble(" " * 9, *_key(*each)) for each in keys[1:]]
        lines.append(Content(""))
    lines.append(Content.styled("An agent's state", "bold"))
    shapes: list[tuple[str, str]] = []
    for position, state in enumerate(AgentState):
        shape, colour = agent_glyph(state)
        shapes += [(shape, colour), (f" {state:<10}", "$text-muted"), ("\n" if position % 5 == 4 else "", "")]
    lines.append(Content.assemble(*shapes))
    lines += [
        Content(""),
        Content.styled("Answers say where they came from: a model, keywords, rules or the operator.", "$text-muted"),
    ]
    return Content("\n").join(lines)


def _key(key: str, does: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (fit(key, 13), "bold $accent"), (does, "")
