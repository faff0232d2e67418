"""A log that grows faster than it could be drawn, in a pane one can scroll and search meanwhile."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from echo_core.text import inert
from echo_tui.logs.buffer import LineBuffer, Matches
from echo_tui.logs.row import Columns, Row, cut
from echo_tui.widgets.frame_clock import FrameClock

WHEEL_ROWS = 3
CACHED_LINES = 200  # a few screens, for scrolling to and fro; a drawn row takes some 4 KB

Place = tuple[int, int]  # a line's number, and which of its rows


class LogView(Widget, can_focus=True):
    """The last lines of a log. It follows its end until the reader scrolls up, then stays where the reader is.

    Lines are kept as bytes and decoded when they are painted. `show_name` adds a column for the agent's name, and puts
    the lines of several logs in the order of their times. Everything a line holds is shown as text, never acted on.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    LogView {
        width: 1fr;
        height: 1fr;
        .log-view--time, .log-view--empty { color: $text-muted; }
        .log-view--action { color: $accent 75%; }
        .log-view--name { color: $secondary; }
        .log-view--warn { color: $warning; }
        .log-view--error { color: $error; }
        .log-view--match { color: $background; background: $warning; }
        .log-view--current { color: $background; background: $accent; text-style: bold; }
        .log-view--more { color: $background; background: $accent; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "log-view--time",
        "log-view--action",
        "log-view--name",
        "log-view--warn",
        "log-view--error",
        "log-view--match",
        "log-view--current",
        "log-view--more",
        "log-view--empty",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", "Scroll up", show=False),
        Binding("down", "scroll_down", "Scroll down", show=False),
        Binding("pageup", "page_up", "Page up", show=False),
        Binding("pagedown", "page_down", "Page down", show=False),
        Binding("home", "scroll_home", "First line", show=False),
        Binding("end", "scroll_end", "Follow the end", show=False),
    ]

    follow: reactive[bool] = reactive(True, repaint=False)
    search: reactive[str] = reactive("", repaint=False)
    wrap: reactive[bool] = reactive(False, repaint=False)

    def __init__(
        self,
        *,
        show_name: bool = False,
        empty_text: str = "No lines yet.",
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.empty_text = empty_text
        self._show_name = show_name
        self._buffer = LineBuffer(ordered=show_name)
        self._clock: FrameClock | None = None
        self._anchor: Place | None = None  # the first row on the screen, while not following
        self._seen = 0  # lines the reader had on the screen, or that were there when the reader scrolled up
        self._matches: Matches | None = None
        self._current: int | None = None  # the line the search stands at
        self._visible: list[Strip] | None = None
        self._visible_size = Size(0, 0)
        self._painted: tuple[Place, int, int] | None = None
        self._look: tuple[object, ...] = ()
        self._style_version = 0
        self._rows: LRUCache[int, list[Strip]] = LRUCache(CACHED_LINES)
        self._columns = Columns(1)
        self._styles: dict[str, Style] = {}
        self._bare = False

    # What is in it

    def append(self, lines: list[bytes], name: str = "") -> None:
        """Whole lines without their line ends; `name` is whose they are, for `show_name`."""
        if lines:
            self._buffer.append(lines, name)
            self._ask_for_frame()

    def clear(self) -> None:
        self._buffer.clear()
        self._anchor, self._current, self._seen = None, None, self.total
        self.follow = True
        self._redraw()

    @property
    def show_name(self) -> bool:
        return self._show_name

    @show_name.setter
    def show_name(self, shown: bool) -> None:
        self._show_name = self._buffer.ordered = shown
        self._redraw()

    @property
    def total(self) -> int:
        """Lines ever appended; `clear` does not begin again."""
        return self._buffer.total

    @property
    def top(self) -> int:
        """The number of the first line on the screen, counted from the first line ever appended."""
        return self._place()[0]

    @property
    def unseen(self) -> int:
        """Lines that arrived below what the reader looks at; 0 while following."""
        return 0 if self.follow else self.total - max(self._seen, min(self.total, self._last_visible() + 1))

    # Searching

    @property
    def match_count(self) -> int:
        """Kept lines that hold the searched text."""
        return len(self._matches.numbers()) if self._matches else 0

    def find_next(self) -> bool:
        """To the next match below, or from the last one to the first; False when there is none. Ends following."""
        if self._matches is None:
            return False
        here = self._current if self._current is not None else self.top - 1
        return self._show_match(self._matches.after(here))

    def find_previous(self) -> bool:
        """To the next match above, or from the first one to the last; False when there is none. Ends following."""
        if self._matches is None:
            return False
        here = self._current if self._current is not None else self._last_visible() + 1
        return self._show_match(self._matches.before(here))

    def _show_match(self, number: int | None) -> bool:
        if number is None:
            return False
        self._current = number
        self._leave_end()
        if not self._place()[0] < number < self._last_visible():
            self._go(self._moved((number, 0), -(self._height // 2)))
        self._redraw()
        return True

    # Scrolling

    def scroll_rows(self, rows: int) -> None:
        """Down by `rows`, up when negative. Up ends following; reaching the end begins it again."""
        if rows < 0:
            self._leave_end()
        elif self.follow:
            return
        self._go(self._moved(self._place(), rows))
        if rows > 0 and self._place() >= self._end():
            self.follow = True

    def action_scroll_up(self) -> None:
        self.scroll_rows(-1)

    def action_scroll_down(self) -> None:
        self.scroll_rows(1)

    def action_page_up(self) -> None:
        self.scroll_rows(1 - max(2, self._height))

    def action_page_down(self) -> None:
        self.scroll_rows(max(2, self._height) - 1)

    def action_scroll_home(self) -> None:
        self._leave_end()
        self._go((self._buffer.first, 0))

    def action_scroll_end(self) -> None:
        self.follow = True

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.scroll_rows(-WHEEL_ROWS)

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.scroll_rows(WHEEL_ROWS)

    def _leave_end(self) -> None:
        self.follow = False
        if self._anchor is None:  # not mounted yet, so that nobody watched
            self.watch_follow(False)

    def watch_follow(self, follow: bool) -> None:
        if follow:
            self._anchor, self._current = None, None
        elif self._anchor is None:
            self._anchor, self._seen = self._end(), self.total
        self._redraw()

    def watch_search(self, search: str) -> None:
        self._matches = Matches(self._buffer, inert(search)) if search else None
        self._current = None
        self._redraw()

    def watch_wrap(self) -> None:
        if self._anchor is not None:
            self._anchor = (self._anchor[0], 0)
        self._redraw()

    # Places

    @property
    def _height(self) -> int:
        return self.size.height

    def _row_count(self, number: int) -> int:
        return len(self._line_rows(number)) if self.wrap else 1

    def _end(self) -> Place:
        """The first row on the screen when the last line is on its last row."""
        return self._moved((self._buffer.total, 0), -self._height)

    def _place(self) -> Place:
        """The first row on the screen. Old lines may have fallen off, or the screen have grown."""
        end = self._end()
        if self.follow or self._anchor is None:
            return end
        return min(max(self._anchor, (self._buffer.first, 0)), end)

    def _go(self, place: Place) -> None:
        self._anchor = max((self._buffer.first, 0), min(place, self._end()))
        self._seen = max(self._seen, min(self.total, self._last_visible() + 1))
        self._redraw()

    def _moved(self, place: Place, rows: int) -> Place:
        """`rows` further down, or up when negative, within what is kept."""
        number, row = place
        first, total = self._buffer.first, self._buffer.total
        if not self.wrap:
            return max(first, min(number + rows, total)), 0
        self._settle_look()  # how many rows a line takes depends on it
        row += rows
        while row < 0 and number > first:
            number -= 1
            row += self._row_count(number)
        while number < total and row >= (count := self._row_count(number)):
            number, row = number + 1, row - count
        return (number, max(0, row)) if number < total else (total, 0)

    def _last_visible(self) -> int:
        """The number of the last line on the screen; one less than the first one where there is none."""
        number, row = self._place()
        if not self.wrap:
            return min(number + self._height, self._buffer.total) - 1
        left = self._height + row
        while number < self._buffer.total and left > 0:
            left -= self._row_count(number)
            number += 1
        return number - 1

    # Painting

    def on_mount(self) -> None:
        self._clock = FrameClock.of(self.app)
        self._redraw()

    def on_unmount(self) -> None:
        if self._clock is not None:
            self._clock.forget(self)
            self._clock = None

    def on_resize(self) -> None:
        self._redraw()

    def on_show(self) -> None:
        self._redraw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._style_version += 1
        self._visible = None

    def _ask_for_frame(self) -> None:
        if self._clock is not None:
            self._clock.request(self)

    def _redraw(self) -> None:
        self._visible = None
        self.refresh()

    def commit_frame(self) -> None:
        """Called by the frame clock: what arrived since the last frame is painted now."""
        before = self._painted
        now = (self._place(), self._last_visible(), self.unseen)
        if before == now and not self.follow:
            return
        self._visible = None
        if before is not None and before[:2] == now[:2] and not self.follow:
            self.refresh(Region(0, self._height - 1, self.size.width, 1))  # the reader's place stays: only the marker
        else:
            self.refresh()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Without a border, padding or tint the rows are what they are: the general way costs more than drawing them."""
        if crop.y == 0:
            self._settle_look()
        if not self._bare:
            return super().render_lines(crop)
        strips = [self.render_line(y) for y in crop.line_range]
        for line_filter in self.get_line_filters():
            background = self.background_colors[1]
            strips = [strip.apply_filter(line_filter, background) for strip in strips]
        if crop.column_span != (0, self.size.width):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def render_line(self, y: int) -> Strip:
        if y == 0:  # once a repaint: asking for the style costs as much as the rest of the row
            self._settle_look()
        visible = self._visible
        if visible is None or self._visible_size != self.size:
            self._settle_look()
            visible = self._visible = self._paint()
            self._visible_size = self.size
        return visible[y] if y < len(visible) else Strip.blank(self.size.width, self._styles["text"])

    def _style_of(self, name: str) -> Style:
        try:
            return self.get_component_rich_style(name)
        except KeyError:
            self._look = ()  # painted before the stylesheet was applied, as when panes come and go: asked again next time
            return self.rich_style

    def _settle_look(self) -> None:
        """Forgets the rows drawn when anything they depend on has changed."""
        name_cells = self._buffer.name_width if self._show_name else 0
        look = (self.size.width, name_cells, self.wrap, self.search, self.rich_style, self._style_version)
        if look == self._look:
            return
        self._look = look
        self._rows.clear()
        self._visible = None
        pattern = self._matches.pattern if self._matches else None
        self._columns = Columns(max(1, self.size.width), name_cells, self.wrap, pattern)
        self._styles = {name.removeprefix("log-view--"): self._style_of(name) for name in self.COMPONENT_CLASSES}
        self._styles["text"] = self.rich_style
        styles = self.styles
        edged = any(styles.gutter) or any(edge for edge, _ in styles.outline)
        self._bare = not (edged or styles.tint.a or styles.has_rule("hatch") or self.opacity != 1.0)

    def _line_rows(self, number: int) -> list[Strip]:
        strips = self._rows.get(number)
        if strips is None:
            raw, name = self._buffer.line(number)
            strips = [self._strip(row) for row in self._columns.rows(raw, name)]
            self._rows[number] = strips
        return strips

    def _strip(self, row: Row, match: str = "match") -> Strip:
        styles = self._styles
        segments = [Segment(part.text, styles[match if part.kind == "match" else part.kind]) for part in row if part.text]
        return Strip(segments).adjust_cell_length(self.size.width, styles["text"])

    def _paint(self) -> list[Strip]:
        width, height = self.size
        number, row = place = self._place()
        self._painted = (place, self._last_visible(), self.unseen)
        strips: list[Strip] = []
        total = self._buffer.total
        while number < total and len(strips) < height:
            rows = self._line_rows(number)
            if number == self._current and self._matches is not None:
                raw, name = self._buffer.line(number)
                rows = [self._strip(part, "current") for part in self._columns.rows(raw, name)]
            strips += rows[row:]
            number, row = number + 1, 0
        del strips[height:]
        if not strips and height:
            text = cut(inert(self.empty_text), width)
            strips = [Strip([Segment(text, self._styles["empty"])]).extend_cell_length(width, self._styles["text"])]
        strips += [Strip.blank(width, self._styles["text"])] * (height - len(strips))
        if unseen := self.unseen:
            strips[-1:] = [self._with_marker(strips[-1], unseen)] if strips else []
        return strips

    def _with_marker(self, strip: Strip, unseen: int) -> Strip:
        text = cut(f" +{unseen:,} {'line' if unseen == 1 else 'lines'} ", self.size.width)
        marker = Strip([Segment(text, self._styles["more"])], len(text))
        return Strip.join([strip.crop(0, self.size.width - len(text)), marker])
