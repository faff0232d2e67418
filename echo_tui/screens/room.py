"""The control room: phases at the left, a pane for each agent, what happened last, and the keys."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from echo_core.snapshot import AgentView
from echo_tui.keys import ROOM_BINDINGS, keys_now, way_out
from echo_tui.messages import Control, Tell
from echo_tui.state import RoomState
from echo_tui.widgets.event_line import EventLine
from echo_tui.widgets.key_line import KeyLine
from echo_tui.widgets.log_view import LogView
from echo_tui.widgets.pane_grid import PaneGrid
from echo_tui.widgets.phases import PhaseColumn, PhaseRow
from echo_tui.widgets.status_header import StatusHeader

if TYPE_CHECKING:
    from echo_core.organisation import Organisation
    from echo_tui.widgets.composer import Composer
    from echo_tui.widgets.search_bar import SearchBar

NARROW_COLUMNS = 100  # below: phases in a row, one pane and a list
LOW_ROWS = 20
SMALLEST = (60, 16)


class Room(Screen[None]):
    """Shows states and log lines handed to it; asks nothing of anybody."""

    AUTO_FOCUS = ""  # the first pane has it, as soon as there is one
    BINDINGS: ClassVar[list[BindingType]] = ROOM_BINDINGS
    DEFAULT_CSS = """
    Room { layers: base over; }
    Room #middle { height: 1fr; }
    Room #right { width: 1fr; height: 1fr; }
    Room PhaseRow { display: none; }
    Room #merged { display: none; }
    Room.-narrow PhaseRow { display: block; }
    Room.-narrow PhaseColumn { display: none; }
    Room.-merged #merged { display: block; }
    Room.-merged PaneGrid { display: none; }
    Room #small { layer: over; display: none; width: 100%; height: 100%; content-align: center middle; }
    Room.-small #small { display: block; }
    """

    def __init__(self, state: RoomState) -> None:
        super().__init__()
        self.state = state
        self.header = StatusHeader()
        self.phases = PhaseColumn()
        self.phase_row = PhaseRow()
        self.panes = PaneGrid()
        self.merged = LogView(show_name=True, empty_text="No log lines yet.", id="merged")
        self.event_line = EventLine()
        self.keys = KeyLine()
        self.composer: Composer | None = None
        self.search_bar: SearchBar | None = None

    def compose(self) -> ComposeResult:
        yield self.header
        yield self.phase_row
        with Horizontal(id="middle"):
            yield self.phases
            with Vertical(id="right"):
                yield self.panes
                yield self.merged
        yield self.event_line
        yield self.keys
        yield Static(id="small", markup=False)

    async def show(self, state: RoomState) -> None:
        before, self.state = self.state, state
        for widget in (self.header, self.phases, self.phase_row, self.event_line):
            widget.state = state
        if state.agents != before.agents or len(self.panes.panes) != len(state.agents):
            await self.panes.show(state.agents)
        if self.focused is None and state.agents:
            self._focus_log()  # keys for one agent mean a pane that is seen to be meant
        self._show_keys()

    def tick(self, now: datetime) -> None:
        self.header.now = now

    def tell(self, when: datetime, text: str, *, urgent: bool = False) -> None:
        self.event_line.told = (when, text, urgent)

    def append(self, name: str, lines: list[bytes]) -> None:
        self.panes.append(name, lines)
        self.merged.append(lines, name)

    @property
    def chosen_agent(self) -> AgentView | None:
        pane = self.panes.chosen
        return pane.agent if pane else None

    @property
    def reading(self) -> LogView | None:
        """The log that scrolling, following and searching mean."""
        if self.has_class("-merged"):
            return self.merged
        return self.panes.chosen.log_view if self.panes.chosen else None

    @property
    def typing(self) -> bool:
        """Whether keys belong to a field of the composer or the search."""
        fields = [part for part in (self.composer, self.search_bar) if part is not None]
        return self.focused is not None and any(part in self.focused.ancestors_with_self for part in fields)

    # -- the composer ---------------------------------------------------------------------------------------------------

    async def open_composer(self, organisation: Organisation, to_role: str | None) -> None:
        from echo_tui.widgets.composer import Composer

        if self.composer is None:
            self.composer = Composer(organisation)
            await self.mount(self.composer, before=self.event_line)
        roster = tuple(agent.role for agent in self.state.agents) or tuple(organisation.roles)
        self.composer.open(to_role, roster=roster, pace=self.state.next_pace)
        self._show_keys()

    def composer_left(self) -> None:
        self._focus_log()
        self._show_keys()

    def _focus_log(self) -> None:
        if self.reading is not None:
            self.reading.focus()

    # -- the search -----------------------------------------------------------------------------------------------------

    # Its messages are handled by name: its module is imported when somebody searches.
    def on_search_bar_changed(self, message: SearchBar.Changed) -> None:
        self._search(message.text)

    def on_search_bar_closed(self) -> None:
        self.search_bar = None
        self._search("")
        self._focus_log()
        self._show_keys()

    def on_search_bar_step(self, message: SearchBar.Step) -> None:
        view = self._view_with_matches()
        if view is not None:
            if message.direction > 0:
                view.find_next()
            else:
                view.find_previous()

    def _search(self, text: str) -> None:
        for view in self._views():
            view.search = text
        if self.search_bar is not None:
            found = sum(view.match_count for view in self._views())
            self.search_bar.tell(f"{found} line{'' if found == 1 else 's'}" if text else "")

    def _view_with_matches(self) -> LogView | None:
        """The log that is read, or the first other one where something was found."""
        view = self.reading
        if view is None or view.match_count or view is self.merged:
            return view
        found = [pane for pane in self.panes.panes.values() if pane.log_view.match_count]
        if not found:
            return None
        self.panes.remember(found[0])
        return found[0].log_view

    def _views(self) -> list[LogView]:
        return [self.merged] if self.has_class("-merged") else [pane.log_view for pane in self.panes.panes.values()]

    # -- how it is arranged ---------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        width, height = self.size
        self.set_class(width < NARROW_COLUMNS or height < LOW_ROWS, "-narrow")
        self.phases.styles.width = 31 if width >= 150 else 28
        self.panes.narrow = self.has_class("-narrow")
        small = width < SMALLEST[0] or height < SMALLEST[1]
        self.set_class(small, "-small")
        if small:
            need = f"{SMALLEST[0]}x{SMALLEST[1]}"
            self.query_one("#small", Static).update(
                Content(f"{width}x{height} is too small: make the window {need} or larger")
            )

    def _show_keys(self) -> None:
        composing, searching = bool(self.composer and self.composer.display), self.search_bar is not None
        self.keys.keys = tuple(keys_now(self.state, composing=composing, searching=searching))
        self.keys.last = way_out(composing=composing, searching=searching)

    # -- keys -----------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a field takes the keys, none of these is meant, but for moving on to the next field."""
        own = action in {"zoom", "merged", "search", "follow", "restart", "stop_start", "choose"}
        return False if own and self.typing else super().check_action(action, parameters)

    def action_pane(self, direction: int) -> None:
        if self.search_bar is not None:
            self.search_bar.focus_field()  # it has one field only
        elif self.typing:
            (self.focus_next if direction > 0 else self.focus_previous)()
        else:
            self.panes.step(direction)

    def action_choose(self, number: int) -> None:
        if self.has_class("-merged"):
            self.action_merged()
        if not self.panes.choose(number):
            self.post_message(Tell(f"there is no pane {number}"))

    def action_zoom(self) -> None:
        self.panes.zoomed = not self.panes.zoomed
        self._focus_log()

    def action_merged(self) -> None:
        self.toggle_class("-merged")
        self._focus_log()

    def action_back(self) -> None:
        """From wherever the focus went: the search ends, the composer closes, the panes come back."""
        if self.search_bar is not None:
            self.search_bar.action_close()
        elif self.composer is not None and self.composer.display:
            self.composer.action_close()
        elif self.has_class("-merged"):
            self.action_merged()
        elif self.panes.zoomed:
            self.action_zoom()

    def action_follow(self) -> None:
        if self.reading is not None:
            self.reading.follow = not self.reading.follow
            self.post_message(Tell("following the tail" if self.reading.follow else "stays here; f follows the tail again"))

    async def action_search(self) -> None:
        from echo_tui.widgets.search_bar import SearchBar

        if self.search_bar is None:
            self.search_bar = SearchBar()
            await self.mount(self.search_bar, before=self.event_line)
            self._show_keys()
        else:
            self.search_bar.focus_field()

    def action_restart(self) -> None:
        self._control("restart")

    def action_stop_start(self) -> None:
        agent = self.chosen_agent
        runs = agent is not None and (agent.pid is not None or agent.restart_in is not None)
        self._control("stop" if runs else "start")

    def _control(self, op: str) -> None:
        agent = self.chosen_agent
        if agent is None:
            self.post_message(Tell("there is no agent here"))
        elif not agent.local:
            self.post_message(Tell(f"{agent.title} runs on another machine; its own control room can {op} it"))
        else:
            self.post_message(Control(op, role=agent.role, instance=agent.instance))
