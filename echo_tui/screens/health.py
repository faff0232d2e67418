"""Health: every process and server of the organisation, and what can be done about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import DataTable, Static

from echo_core.health.states import AgentState
from echo_core.snapshot import AgentView, Snapshot
from echo_core.text import inert
from echo_tui.columns import Part, clip, duration, fit
from echo_tui.glyphs import agent_glyph, either, light_glyph
from echo_tui.messages import Control
from echo_tui.screens.sheet import Sheet
from echo_tui.state import NEEDS_PERSON, RoomState
from echo_tui.widgets.live_table import PADDING, Column, LiveTable

if TYPE_CHECKING:
    from echo_tui.link import Link

_ENDED = (AgentState.STOPPED, AgentState.CRASHED, AgentState.GAVE_UP)
_UNWELL = (AgentState.STALLED, AgentState.LATE, AgentState.DOWN, AgentState.CRASHED, AgentState.GAVE_UP)
_NAMES = {"postgresql": "PostgreSQL", "redis": "Redis", "ollama": "Ollama"}
_CONDUCTOR = {"healthy": "up", "busy": "up", "starting": "starting"}
_MEGABYTE = 1_000_000
# Columns in the order they are shown, each with the number of columns of the screen from which it has room.
_COLUMNS = (
    (Column("state", 11), 0),
    (Column("agent", 20), 0),
    (Column("inst", 4, right=True), 150),
    (Column("pid", 7, right=True), 100),
    (Column("beat", 5, right=True), 0),
    (Column("wait", 4, right=True), 0),
    (Column("breaker", 9), 100),
    (Column("MB", 4, right=True), 0),
    (Column("CPU %", 5, right=True), 0),
    (Column("crashes", 7, right=True), 110),
    (Column("mind", 18), 150),
    (Column("where", 6), 150),
    (Column("doing", 12), 0),
)


class HealthScreen(Sheet):
    """The supervisor's snapshot as lights and a table of agents. Works with both servers down."""

    DEFAULT_CSS = """
    HealthScreen {
        & > #vitals { height: auto; padding: 1 1; }
        & #lights { width: 3fr; height: auto; }
        & #owed { width: 2fr; height: auto; }
        & > #agents { height: 1fr; }
        & > #agent { height: auto; min-height: 2; padding: 1 1 0 1; }
        & > #empty { height: 1fr; padding: 1 1; color: $text-muted; display: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "restart", "restart the agent", id="health.restart"),
        Binding("x", "stop_or_start", "stop or start the agent", id="health.stop"),
        Binding("plus,plus_sign", "add", "add an instance", id="health.add"),
    ]

    def __init__(self, state: RoomState, link: Link | None = None) -> None:
        super().__init__(state, link)

    def body(self) -> Iterable[Widget]:
        yield Horizontal(Static(id="lights", markup=False), Static(id="owed", markup=False), id="vitals")
        yield LiveTable(id="agents")
        yield Static(id="empty", markup=False)
        yield Static(id="agent", markup=False)

    def paint(self) -> None:
        snapshot = self.state.snapshot
        table = self.query_one("#agents", LiveTable)
        table.display = bool(snapshot and snapshot.agents)
        empty = self.query_one("#empty", Static)
        empty.display = not table.display
        self.query_one("#vitals").display = self.query_one("#agent").display = snapshot is not None
        if snapshot is None:
            waited = duration(self.state.waited_seconds)
            wait = f"Waiting for the supervisor, which knows every process here: {waited} so far."
            empty.update(Content(inert(self.state.problem) or wait))
            self.title_line.say([("Health", "bold")])
            self.say_keys([])
            return
        empty.update("No agent yet. The supervisor starts the roster; --roster a,b,c names who is in it.")
        self.title_line.say([("Health", "bold"), *_summary(snapshot)], [(clip(snapshot.data_dir, 60), "$text-muted")])
        self.query_one("#lights", Static).update(_lights(snapshot, max(30, self.size.width * 3 // 5 - 2)))
        self.query_one("#owed", Static).update(_owed(snapshot))
        if table.display:
            columns, rows = _table(snapshot.agents, self.size.width)
            table.show_rows(columns, rows)
            if not self.focused:
                table.focus()
        self._paint_agent()

    @on(DataTable.RowHighlighted)
    def _paint_agent(self) -> None:
        agent = self._agent()
        self.query_one("#agent", Static).update(_detail(agent, self.size.width - 2) if agent else "")
        if agent is None:
            self.say_keys([])
        elif not agent.local:
            self.say_keys([("+", "add one here")])
        else:
            ended = AgentState(agent.state) in _ENDED
            self.say_keys(
                [
                    ("r", "restart"),
                    ("x", "start" if ended else "stop"),
                    ("+", "add an instance"),
                    (either("↑↓", "up/down"), "choose"),
                ]
            )

    # -- what a person can do ------------------------------------------------------------------------------------------

    def action_restart(self) -> None:
        if agent := self._local():
            self.post_message(Control("restart", role=agent.role, instance=agent.instance))

    def action_stop_or_start(self) -> None:
        if agent := self._local():
            op = "start" if AgentState(agent.state) in _ENDED else "stop"
            self.post_message(Control(op, role=agent.role, instance=agent.instance))

    def action_add(self) -> None:
        if agent := self._agent():
            self.post_message(Control("add", role=agent.role))

    def _local(self) -> AgentView | None:
        agent = self._agent()
        if agent is not None and not agent.local:
            self.answer(f"{agent.title} runs on another machine; its own supervisor starts and stops it")
            return None
        return agent

    def _agent(self) -> AgentView | None:
        selected = self.query_one("#agents", LiveTable).selected
        return next((agent for agent in self.state.agents if agent.name == selected), None)


def _summary(snapshot: Snapshot) -> list[Part]:
    agents = snapshot.agents
    well = sum(agent.state in (AgentState.HEALTHY, AgentState.BUSY) for agent in agents)
    parts: list[Part] = [(f"  {well} of {len(agents)} agents well", "$text-muted")]
    if calls := [inert(agent.title) for agent in agents if agent.state in NEEDS_PERSON]:
        parts.append((f"  {', '.join(calls)} needs you", "$warning"))
    return parts


def _lights(snapshot: Snapshot, width: int) -> Content:
    rows = [
        ("up", "supervisor", f"pid {snapshot.supervisor_pid}"),
        (
            _CONDUCTOR.get(snapshot.conductor_state, "down"),
            "conductor",
            snapshot.conductor_state + (f", pid {snapshot.conductor_pid}" if snapshot.conductor_pid else ""),
        ),
        *((light.state, _NAMES.get(light.name, light.name), _meaning(light.state, light.detail)) for light in
          snapshot.dependencies),
    ]  # fmt: skip
    lines = []
    for state, name, detail in rows:
        shape, colour = light_glyph(state)
        tone = "$error" if state == "down" else "$text-muted"
        lines.append(Content.assemble((shape, colour), " ", fit(name, 12), (clip(detail, width - 14), tone)))
    return Content("\n").join(lines)


def _meaning(state: str, detail: str) -> str:
    return state if not detail or detail == state else f"{state}: {detail}"


def _owed(snapshot: Snapshot) -> Content:
    lines = [
        _figure(snapshot.pending, "delivery waiting" if snapshot.pending == 1 else "deliveries waiting", ""),
        _figure(
            snapshot.dead,
            ("dead letter" if snapshot.dead == 1 else "dead letters") + (": press l" if snapshot.dead else ""),
            "$error",
        ),
        _figure(snapshot.outbox, "in the outbox" + (" until PostgreSQL is back" if snapshot.outbox else ""), "$warning"),
    ]
    if snapshot.launch.pending:
        wait = "" if snapshot.launch.next_in is None else f" in {snapshot.launch.next_in:.0f} s"
        lines.append(Content.assemble((fit(len(snapshot.launch.pending), 6, right=True), "$accent"), f" to launch{wait}"))
    return Content("\n").join(lines)


def _figure(value: int, what: str, tone: str) -> Content:
    return Content.assemble(
        (fit(value, 6, right=True), f"bold {tone}" if value else "$text-muted"), (f" {what}", "$text-muted")
    )


def _table(agents: Iterable[AgentView], width: int) -> tuple[list[Column], dict[str, list[Part]]]:
    columns = [column for column, least in _COLUMNS if width >= least]
    taken = sum(column.width + PADDING for column in columns[:-1])
    columns[-1] = Column("doing", max(12, width - taken - PADDING - 2))  # the scroll bar may need two
    rows = {}
    for agent in agents:
        cells = _cells(agent)
        rows[agent.name] = [cells[column.label] for column in columns]
    return columns, rows


def _cells(agent: AgentView) -> dict[str, Part]:
    shape, colour = agent_glyph(agent.state)
    tone = {"$accent": "accent", "$success": "success", "$warning": "warning", "$error": "error"}.get(colour, "muted")
    running = agent.pid is not None
    instance = "" if agent.instance == 1 else f" {agent.instance}"
    return {
        "state": (f"{shape} {agent.state}", tone),
        "agent": (agent.title + instance, ""),
        "inst": (str(agent.instance), "muted"),
        "pid": (str(agent.pid or "-"), "muted"),
        "beat": (duration(agent.heartbeat_age) or "-", "warning" if agent.state in ("late", "down") else ""),
        "wait": (str(agent.waiting), "" if agent.waiting else "muted"),
        "breaker": (agent.breaker, "muted" if agent.breaker == "closed" else "warning"),
        "MB": (f"{agent.rss_bytes / _MEGABYTE:.0f}" if running else "-", "" if running else "muted"),
        "CPU %": (f"{agent.cpu_percent:.1f}" if running else "-", "" if running else "muted"),
        "crashes": (f"{agent.crashes} of {agent.crash_limit}", "warning" if agent.crashes else "muted"),
        "mind": (agent.mind, "muted"),
        "where": ("here" if agent.local else "remote", "muted"),
        "doing": (_doing(agent), "error" if agent.exit and AgentState(agent.state) in _UNWELL else "muted"),
    }


def _doing(agent: AgentView) -> str:
    if agent.restart_in is not None:
        return f"{agent.exit or 'ended'}, restart in {agent.restart_in:.0f} s"
    return agent.exit or agent.activity


def _detail(agent: AgentView, width: int) -> Content:
    shape, colour = agent_glyph(agent.state)
    head = Content.assemble(
        (f"{shape} ", colour), (inert(agent.title), "bold"), (f"  {agent.name}, instance {agent.instance}", "$text-muted")
    )
    facts = [
        f"pid {agent.pid}" if agent.pid else "no process",
        f"mind: {agent.mind}" if agent.mind else "mind: not known yet",
        f"breaker {agent.breaker}",
        f"{agent.crashes} crashes of {agent.crash_limit}",
        "on this machine" if agent.local else "on another machine",
    ]
    lines = [head.truncate(width), *_flow(facts, width)]
    reason = _reason(agent)
    if reason:
        lines += Content.styled(inert(reason), "$warning").wrap(width)
    return Content("\n").join(lines)


def _flow(facts: Iterable[str], width: int) -> list[Content]:
    """Facts side by side, none cut in the middle where it would have room in a line of its own."""
    lines: list[str] = []
    for fact in map(inert, facts):
        if lines and len(lines[-1]) + len(fact) + 3 <= width:
            lines[-1] += f" {either('·', '-')} {fact}"
        else:
            lines.append(clip(fact, width))
    return [Content.styled(line, "$text-muted") for line in lines]


def _reason(agent: AgentView) -> str:
    match AgentState(agent.state):
        case AgentState.GAVE_UP:
            return (
                f"{agent.exit or 'it ended'}, {agent.crashes} times; its log {agent.log_path} may say why; r starts it again"
            )
        case AgentState.CRASHED:
            return _doing(agent)
        case AgentState.STALLED:
            return f"no progress on {agent.activity or 'its message'}; r restarts it, and its message goes to the next try"
        case AgentState.LATE | AgentState.DOWN:
            return f"no heartbeat for {duration(agent.heartbeat_age) or 'a while'}; r restarts it"
        case AgentState.STOPPED:
            return "stopped; x starts it"
    return ""
