"""The middle: a pane for each agent, as many columns as fit; or one pane and a list where little fits."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Grid, Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from echo_core.snapshot import AgentView
from echo_core.text import inert
from echo_tui.columns import Part, duration, row
from echo_tui.glyphs import agent_glyph
from echo_tui.logs.line import parse
from echo_tui.widgets.agent_pane import AgentPane, doing

PANE_COLUMNS = 36  # narrower, a log line is mostly cut
PANE_ROWS = 5  # lower, a pane shows less than its agent's last doings


class AgentList(Widget):
    """Each agent in a line: shape, what it is doing, and the last line of its log."""

    DEFAULT_CSS = "AgentList { height: auto; max-height: 40%; }"

    agents: reactive[tuple[AgentView, ...]] = reactive((), layout=True)
    focused: reactive[str] = reactive("", layout=False)
    last_lines: reactive[dict[str, bytes]] = reactive(dict, layout=False)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return max(1, len(self.agents))

    def render(self) -> Content:
        return Content("\n").join(self._line(number, agent) for number, agent in enumerate(self.agents, 1))

    def _line(self, number: int, agent: AgentView) -> Content:
        shape, colour = agent_glyph(agent.state)
        text, style = doing(agent)
        title = f"{inert(agent.title)[:18]:<18} "
        here = agent.name == self.focused
        left: list[Part] = [(f" {number if number < 10 else ' '} ", "$text-muted"), (f"{shape} ", colour)]
        left += [(title, "bold $accent" if here else "bold"), (f"{text:<14} ", style)]
        if raw := self.last_lines.get(agent.name):
            line = parse(raw)
            left.append((inert(f"{line.action} {line.text}".strip()), "$text-muted"))
        age = f" {duration(agent.heartbeat_age):>5} "
        return row(left, [(age, "$text-muted")], self.size.width)


class PaneGrid(Vertical):
    """Panes by the agent's name. `zoomed` shows the focused one alone; `narrow` the list and one pane."""

    DEFAULT_CSS = """
    PaneGrid { width: 1fr; height: 1fr; }
    PaneGrid > Grid { height: 1fr; grid-gutter: 0 1; }
    """

    narrow: reactive[bool] = reactive(False, init=False)
    zoomed: reactive[bool] = reactive(False, init=False)

    def __init__(self) -> None:
        super().__init__()
        self.panes: dict[str, AgentPane] = {}
        self._list = AgentList()
        self._grid = Grid()
        self._last: dict[str, bytes] = {}
        self._chosen = ""  # the pane that has, or last had, the focus

    def compose(self) -> ComposeResult:
        self._list.display = False
        yield self._list
        yield self._grid

    @property
    def chosen(self) -> AgentPane | None:
        """The pane the keys for one agent mean."""
        return self.panes.get(self._chosen) or next(iter(self.panes.values()), None)

    async def show(self, agents: Sequence[AgentView]) -> None:
        """Make, keep and take away panes; their logs stay with them."""
        names = [agent.name for agent in agents]
        for name in [name for name in self.panes if name not in names]:
            await self.panes.pop(name).remove()
        new = []
        for number, agent in enumerate(agents, 1):
            if agent.name in self.panes:
                self.panes[agent.name].show(agent, number)
            else:
                self.panes[agent.name] = AgentPane(agent, number)
                new.append(self.panes[agent.name])
        if new:
            await self._grid.mount(*new)
        if list(self.panes) != names:
            self.panes = {name: self.panes[name] for name in names}
        if new and [pane.agent_name for pane in self._grid.query(AgentPane)] != names:
            self._grid.sort_children(key=lambda pane: names.index(pane.agent_name) if isinstance(pane, AgentPane) else 0)
        self._list.agents = tuple(agents)
        self.settle()

    def append(self, name: str, lines: list[bytes]) -> None:
        pane = self.panes.get(name)
        if pane is not None and lines:
            pane.log_view.append(lines)
            self._last[name] = lines[-1]
            if self.narrow:
                self._list.last_lines = dict(self._last)

    def choose(self, number: int) -> bool:
        """Focus the pane with this number; False when there is none."""
        panes = list(self.panes.values())
        if not 0 < number <= len(panes):
            return False
        self.remember(panes[number - 1])
        panes[number - 1].log_view.focus()
        return True

    def step(self, direction: int) -> None:
        panes = list(self.panes)
        if panes:
            here = panes.index(self._chosen) if self._chosen in panes else -1 if direction > 0 else 0
            self.choose((here + direction) % len(panes) + 1)

    def on_descendant_focus(self) -> None:
        focused = self.screen.focused
        for pane in self.panes.values():
            if focused is not None and pane in focused.ancestors:
                self.remember(pane)

    def remember(self, pane: AgentPane) -> None:
        """Keys for one agent now mean this one."""
        if pane.agent_name != self._chosen:
            self._chosen = pane.agent_name
            self._list.focused = self._chosen
            self.settle()

    def watch_narrow(self) -> None:
        if self.narrow:
            self._list.last_lines = dict(self._last)
        self.settle()

    def watch_zoomed(self) -> None:
        for pane in self.panes.values():
            pane.log_view.wrap = self.zoomed
        self.settle()

    def on_resize(self) -> None:
        self.settle()

    def settle(self) -> None:
        """Decide what is shown, and in how many columns."""
        alone = self.narrow or self.zoomed
        self._list.display = self.narrow and not self.zoomed
        chosen = self.chosen
        self._list.focused = chosen.agent_name if chosen else ""
        for pane in self.panes.values():
            pane.display = pane is chosen or not alone
        columns, rows = (1, 1) if alone else _shape(len(self.panes), self.size.width, self.size.height)
        self._grid.styles.grid_size_columns = columns
        self._grid.styles.grid_size_rows = rows
        self._grid.styles.grid_rows = "1fr"


def _shape(count: int, width: int, height: int) -> tuple[int, int]:
    """Columns and rows for `count` panes: the shape that shows each with the most text, wide before high."""
    if count == 0 or width == 0:
        return 1, 1
    most = max(1, min(count, width // PANE_COLUMNS))
    fitting = [columns for columns in range(1, most + 1) if height // -(-count // columns) >= PANE_ROWS] or [most]
    columns = min(fitting, key=lambda c: (-(-count // c) * c - count, abs(width / c - 3.2 * height / -(-count // c))))
    return columns, -(-count // columns)
