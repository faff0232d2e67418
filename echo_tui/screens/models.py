"""Models: what makes the answers, what it took, and how to get a model where there is none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from textual import work
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from echo_core.errors import EchoError
from echo_core.snapshot import DependencyView, Snapshot
from echo_tui.columns import Part, duration
from echo_tui.glyphs import agent_glyph, either, light_glyph
from echo_tui.screens.sheet import Sheet
from echo_tui.state import RoomState
from echo_tui.widgets.page import Page

if TYPE_CHECKING:
    from echo_tui.link import Link

READ_SECONDS = 2.0
_READABLE = 112
_MUTED = "$text-muted"
_HOW = (
    ("ollama pull llama3.2", "gets a small model; ollama.com has the program"),
    ("OLLAMA_HOST", "where Ollama listens, 127.0.0.1:11434 unless told otherwise"),
    ("ECHO_MODEL", "one model for every role; ECHO_MODEL_CTO for one role"),
    ("ECHO_LLM", "auto: a model when there is one; ollama: call its absence a fault; off: rules"),
)
_FIGURES = (
    ("who", 17, 0),
    ("model", 18, 0),
    ("calls", 5, 0),
    ("failed", 6, 0),
    ("load", 6, 88),
    ("first", 6, 74),
    ("total", 6, 0),
    ("read", 9, 88),
    ("written", 8, 88),
)  # head, cells, least width of the page


class ModelsScreen(Sheet):
    """Ollama as the supervisor sees it, the mind of each agent, and the figures of all calls on record."""

    DEFAULT_CSS = """
    ModelsScreen > #page { height: 1fr; padding: 1 1; scrollbar-size-vertical: 1; }
    """
    AUTO_FOCUS = "#page"

    def __init__(self, state: RoomState, link: Link | None = None) -> None:
        super().__init__(state, link)
        self._calls: list[dict[str, Any]] | None = None

    def body(self) -> Iterable[Widget]:
        yield VerticalScroll(Static(id="text", markup=False), id="page")

    def on_mount(self) -> None:
        super().on_mount()
        self._read_calls()
        self.set_interval(READ_SECONDS, self._read_calls)

    def paint(self) -> None:
        page = Page(min(self.size.width - 4, _READABLE))
        snapshot = self.state.snapshot
        if snapshot is None:
            page.text(
                (self.state.problem or f"Waiting for the supervisor: {duration(self.state.waited_seconds)} so far.", _MUTED)
            )
        else:
            _ollama(page, snapshot, self._wanted())
            self._minds(page)
            self._figures(page)
        self.query_one("#text", Static).update(Content("\n").join(page.lines))
        thinking = sum(agent.mind not in ("", "rules") for agent in self.state.agents)
        told = f"{thinking} of {len(self.state.agents)} agents think with a model" if self.state.agents else ""
        self.title_line.say([("Models", "bold")], [(told, _MUTED)])
        self.say_keys([(either("↑↓", "up/down"), "scroll")])

    def _wanted(self) -> bool:
        """Whether a model is asked for at all."""
        return self.link is None or self.link.settings.llm != "off"

    def _minds(self, page: Page) -> None:
        page.heading("Minds")
        if not self.state.agents:
            page.text(("No agent yet: the supervisor starts the roster.", _MUTED))
        for agent in self.state.agents:
            shape, colour = agent_glyph(agent.state)
            mind = agent.mind or "not known yet: it says so with its first heartbeat"
            title = agent.title if agent.instance == 1 else f"{agent.title} {agent.instance}"
            page.grid(
                [1, 20, 0], [[(shape, colour)], [(title, "")], [(mind, _MUTED if agent.mind in ("", "rules") else "bold")]]
            )

    def _figures(self, page: Page) -> None:
        page.heading("Calls on record")
        if not self._calls:
            waits = "Waiting for PostgreSQL to answer." if self._calls is None and self.link is not None else ""
            page.text((waits or "No model was asked yet. Its figures stand here after the first question to one.", _MUTED))
            return
        columns = [column for column in _FIGURES if page.width >= column[2]]
        widths = [width if head != "model" else 0 for head, width, _ in columns]
        right = [index for index, (head, _, _) in enumerate(columns) if head not in ("who", "model")]
        page.grid(widths, [[(head, _MUTED)] for head, _, _ in columns], right=right)
        for row in self._calls:
            cells = self._row(row)
            page.grid(widths, [[cells[head]] for head, _, _ in columns], right=right)
        page.blank()
        told = "load, first (token) and total: the mean of a call. read and written: tokens, all calls together."
        page.text((told, _MUTED))

    def _row(self, row: dict[str, Any]) -> dict[str, Part]:
        return {
            "who": (self.state.title(str(row["role"])), ""),
            "model": (str(row["model"]), ""),
            "calls": (str(row["calls"]), ""),
            "failed": (str(row["failed"]), "$warning" if row["failed"] else _MUTED),
            "load": (_mean(row["load_ms"]), _MUTED),
            "first": (_mean(row["first_token_ms"]), ""),
            "total": (_mean(row["total_ms"]), ""),
            "read": (_count(row["prompt_tokens"]), _MUTED),
            "written": (_count(row["output_tokens"]), _MUTED),
        }

    @work(exclusive=True, group="read", exit_on_error=False)
    async def _read_calls(self) -> None:
        if self.link is None:
            return
        try:
            self._calls = await self.link.model_calls()
        except EchoError as error:
            self.trouble(str(error))
            return
        self.relieved()
        self.paint()


def _ollama(page: Page, snapshot: Snapshot, wanted: bool) -> None:
    light = next((each for each in snapshot.dependencies if each.name == "ollama"), DependencyView("ollama", "starting"))
    shape, colour = light_glyph(light.state)
    host = f"  {snapshot.ollama_host}" if snapshot.ollama_host else ""
    page.text(("Ollama", "bold"), (host, _MUTED), first=(f"{shape} ", colour))
    if snapshot.models:
        page.text((f"{len(snapshot.models)} installed", _MUTED), indent=2)
        for model in snapshot.models:
            page.text((model, ""), indent=4)
        return
    if light.state == "starting":
        page.text(("Looking for it.", _MUTED), indent=2)
        return
    if not wanted:
        why = "ECHO_LLM=off: no model is asked."
    elif "no model" in light.detail:
        why = "It answers, and has no model installed."
    else:
        why = "It does not answer there."
    page.text((f"{why} Rules answer for every agent, and every answer says so.", ""), indent=2)
    page.blank()
    page.text(("How to get a model", _MUTED), indent=2)
    for what, does in _HOW:
        page.grid([20, 0], [[(what, "bold")], [(does, _MUTED)]], indent=2)
    page.text(("Agents look again every 30 seconds: nothing needs a restart.", _MUTED), indent=2)


def _mean(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else duration(float(milliseconds) / 1000)


def _count(tokens: int | None) -> str:
    return "-" if tokens is None else f"{int(tokens):,}"
