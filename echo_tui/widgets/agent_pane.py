"""One agent: a header row that tells its state, and its log."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from echo_core.health.states import AgentState
from echo_core.snapshot import AgentView
from echo_core.text import inert
from echo_tui.columns import Part, duration, row
from echo_tui.glyphs import agent_glyph
from echo_tui.widgets.log_view import LogView

_TROUBLE = {AgentState.CRASHED, AgentState.DOWN, AgentState.GAVE_UP}
_CALM = {AgentState.HEALTHY, AgentState.BUSY, AgentState.STARTING}


class PaneHeader(Widget):
    """`2 ● CTO   judging #42   1.1s`. Filled with the accent while its log has the focus (see the stylesheet)."""

    DEFAULT_CSS = "PaneHeader { height: 1; }"

    agent: reactive[AgentView | None] = reactive(None, layout=False)
    number: reactive[int] = reactive(0, layout=False)

    def render(self) -> Content:
        agent = self.agent
        if agent is None:
            return Content("")
        focused = self.has_class("-focused")
        shape, colour = agent_glyph(agent.state)
        number = f"{self.number} " if 0 < self.number < 10 else "  "
        muted = "" if focused else "$text-muted"
        left: list[Part] = [(number, muted), (f"{shape} ", "" if focused else colour), (inert(agent.title), "bold")]
        text, style = doing(agent)
        left.append((f"  {text}", "" if focused else style))
        return Content.assemble(row(left, [(f" {_when(agent)}", muted)], self.size.width - 1), " ")


def doing(agent: AgentView) -> tuple[str, str]:
    """What a person would say the agent does, inert, and its style."""
    if agent.state == AgentState.CRASHED and agent.exit:
        return inert(agent.exit.removeprefix("killed by ")), "$error"
    if agent.state in _TROUBLE:
        return agent.state, "$error"
    if agent.state not in _CALM:
        return f"{agent.state}: {inert(agent.activity)}" if agent.state == AgentState.STALLED else agent.state, "$warning"
    if agent.state == AgentState.STARTING:
        return "starting", "$text-muted"
    return inert(agent.activity or "idle"), "$text-muted" if agent.activity in ("", "idle") else "$accent"


def _when(agent: AgentView) -> str:
    """The heartbeat's age; of a crashed agent, when it comes back."""
    if agent.restart_in is not None:
        return f"again in {duration(agent.restart_in)}"
    if agent.state in (AgentState.STOPPED, AgentState.CRASHED, AgentState.GAVE_UP):
        return ""
    return f"{duration(agent.heartbeat_age):>5}"


class AgentPane(Vertical):
    """`agent` may change at any time; the log stays."""

    DEFAULT_CSS = "AgentPane { min-width: 20; min-height: 3; } AgentPane > LogView { height: 1fr; }"

    def __init__(self, agent: AgentView, number: int) -> None:
        super().__init__()
        self.agent_name = agent.name
        self._header = PaneHeader()
        self._header.set_reactive(PaneHeader.agent, agent)
        self._header.set_reactive(PaneHeader.number, number)
        self.log_view = LogView()

    def compose(self) -> ComposeResult:
        yield self._header
        yield self.log_view

    @property
    def agent(self) -> AgentView:
        assert self._header.agent is not None
        return self._header.agent

    def show(self, agent: AgentView, number: int) -> None:
        self._header.agent, self._header.number = agent, number

    def on_descendant_focus(self) -> None:
        self._header.add_class("-focused")

    def on_descendant_blur(self) -> None:
        self._header.remove_class("-focused")
