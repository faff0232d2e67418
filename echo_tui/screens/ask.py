"""Small questions to the operator: a text, one of a few ways, yes or no. `escape` takes everything back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static, TextArea

from echo_core.bus.message import BODY_BYTES
from echo_core.text import inert, inert_block

_CSS = """
{name} {{
    align: center middle;
    background: $background 60%;
    & > #box {{ width: 64; max-width: 92%; height: auto; background: $surface; padding: 1 2; }}
    & #title {{ text-style: bold; }}
    & #detail {{ color: $text-muted; }}
    & #said {{ height: {rows}; margin: 1 0; background: $panel; border: none; padding: 0 1; }}
    & #problem {{ color: $warning; height: 1; display: {problem}; }}
    & #keys {{ margin-top: {gap}; }}
}}
"""


class AskText(ModalScreen[str | None]):
    """A few words: `enter` gives them, `escape` gives None. `needed`: empty is refused, beside the field."""

    DEFAULT_CSS = _CSS.format(name="AskText", rows=6, problem="block", gap=0)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,ctrl+s", "give", "send", priority=True),
        Binding("escape", "dismiss(None)", "back", priority=True),
    ]

    def __init__(self, title: str, detail: str = "", *, does: str = "send", needed: bool = False) -> None:
        super().__init__()
        self._title, self._detail, self._does, self._needed = title, detail, does, needed

    def compose(self) -> ComposeResult:
        yield _box(
            self._title,
            self._detail,
            [("enter", self._does), ("esc", "back")],
            TextArea(id="said", soft_wrap=True, tab_behavior="focus", highlight_cursor_line=False),
            Static(id="problem", markup=False),
        )

    def on_mount(self) -> None:
        self.query_one(TextArea).focus()

    def action_give(self) -> None:
        said = self.query_one(TextArea).text.strip()
        if problem := self._problem(said):
            self.query_one("#problem", Static).update(problem)
        else:
            self.dismiss(said)

    def _problem(self, said: str) -> str:
        if self._needed and not said:
            return "There is nothing here yet: type it, or escape."
        size = len(said.encode("utf-8", "surrogatepass"))
        return f"{size:,} bytes; {BODY_BYTES:,} are possible." if size > BODY_BYTES else ""


class AskWay(ModalScreen[str | None]):
    """One of a few ways, each with a key of its own: gives its name. `escape` gives None."""

    DEFAULT_CSS = _CSS.format(name="AskWay", rows=1, problem="none", gap=1)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "back")]

    def __init__(self, title: str, detail: str, ways: Sequence[tuple[str, str, str]]) -> None:
        """`ways`: key, name, what it does."""
        super().__init__()
        self._title, self._detail, self._ways = title, detail, ways
        for key, name, does in ways:
            self._bindings.bind(key, f"dismiss({name!r})", does)

    def compose(self) -> ComposeResult:
        yield _box(self._title, self._detail, [*((key, does) for key, _, does in self._ways), ("esc", "back")])


class AskConfirm(ModalScreen[bool]):
    """`y` gives True; `n` and `escape` give False."""

    DEFAULT_CSS = _CSS.format(name="AskConfirm", rows=1, problem="none", gap=1)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape", "dismiss(False)", "no"),
    ]

    def __init__(self, title: str, detail: str, *, does: str) -> None:
        super().__init__()
        self._title, self._detail, self._does = title, detail, does

    def compose(self) -> ComposeResult:
        yield _box(self._title, self._detail, [("y", self._does), ("n", "no, leave it as it is")])


def _box(title: str, detail: str, keys: Iterable[tuple[str, str]], *between: Widget) -> Vertical:
    parts: list[tuple[str, str]] = []
    for key, does in keys:
        parts += [(key, "bold $accent"), (f" {does}   ", "$text-muted")]
    return Vertical(
        Static(inert(title), id="title", markup=False),
        Static(inert_block(detail), id="detail", markup=False),
        *between,
        Static(Content.assemble(*parts), id="keys", markup=False),
        id="box",
    )
