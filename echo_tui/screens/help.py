"""Every key, in one screen."""

from __future__ import annotations

from itertools import zip_longest
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

Group = tuple[str, tuple[tuple[str, str], ...]]

_DECIDING: tuple[Group, ...] = (
    ("Decide", (
        ("b", "compose a broadcast"), ("ctrl+s", "send it (in the composer)"), ("n", "next phase"),
        ("a", "run on automatically / step"), ("p", "pause / resume"), ("d", "decision room"),
    )),
    ("In the decision room", (
        ("s i", "speak / another round"), ("v e c", "overrule / take it over / cancel"),
        ("y w", "approve / reject, when it waits"), ("g", "write the minutes to a file"),
    )),
    ("Leave", (("q", "stop everything, leave it, or stay"), ("esc", "back"))),
)  # fmt: skip
_WATCHING: tuple[Group, ...] = (
    ("Watch", (
        ("1…9 tab", "focus an agent's pane"), ("z", "zoom the focused pane"), ("m", "all logs merged in one"),
        ("/", "search the logs"), ("f end", "follow the tail"), ("↑ pgup home", "scroll back"),
    )),
    ("Agents", (
        ("r", "restart the focused agent"), ("x", "stop / start the focused agent"),
        ("h", "health; + there adds an instance"),
    )),
    ("Look up", (("l", "messages and dead letters"), ("o", "models"), ("ctrl+p", "every command, by name"))),
)  # fmt: skip
_COLUMN = 50
_KEY = 13


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "back")]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen Vertical.-wide { width: 108; }
    HelpScreen Vertical { width: 74; max-width: 96%; height: auto; max-height: 96%; background: $panel; padding: 1 2; }
    HelpScreen VerticalScroll { height: auto; max-height: 100%; scrollbar-size-vertical: 1; }
    """

    def compose(self) -> ComposeResult:
        wide = self.app.size.width >= 2 * _COLUMN + 10
        with Vertical(classes="-wide" if wide else ""), VerticalScroll():
            yield Static(_text(wide), markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()


def _text(wide: bool) -> Content:
    deciding, watching = _lines(_DECIDING), _lines(_WATCHING)
    if wide:
        pairs = zip_longest(deciding, watching, fillvalue=Content(""))
        lines = [left.pad_right(max(0, _COLUMN - left.cell_length)) + right for left, right in pairs]
    else:
        lines = [*deciding, *watching]
    lines.append(Content.styled("An agent's state", "bold"))
    shapes: list[tuple[str, str]] = [("  ", "")]
    for position, state in enumerate(AgentState):
        shape, colour = agent_glyph(state)
        shapes += [(shape, colour), (f" {state:<10}", "$text-muted"), ("\n  " if position % 5 == 4 else "", "")]
    lines.append(Content.assemble(*shapes))
    source = "Answers say where they came from: a model, keywords, rules or you."
    return Content("\n").join([*lines, Content(""), Content.styled(source, "$text-muted")])


def _lines(groups: tuple[Group, ...]) -> list[Content]:
    lines = []
    for title, keys in groups:
        lines.append(Content.styled(title, "bold"))
        lines += [Content.assemble("  ", (fit(key, _KEY), "bold $accent"), does) for key, does in keys]
        lines.append(Content(""))
    return lines
